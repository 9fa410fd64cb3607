package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"warble/shared/env"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// Mail is asked for by a row of mail_requests, which is written together with an event that carries its number and nothing
// else. Function mail hears the event, makes the token, and sends it; the database keeps the token's hash.

// MailKind is what a mail is for.
type MailKind string

const (
	VerifyMail MailKind = "verify" // shows that mail to the address reaches its owner
	ResetMail  MailKind = "reset"  // lets who reads it choose a password
)

// mailLife is how long the token of a mail counts from when it was sent.
var mailLife = map[MailKind]string{VerifyMail: `interval '24 hours'`, ResetMail: `interval '1 hour'`}

// mailEvent is a statement's CTE that tells mail of the rows of the CTE request. An event is of a user's, and in order with
// theirs; that of a mail is of its request's, because nobody may have the address. traceparent is the statement's parameter.
func mailEvent(traceparent string) string {
	return `
		mail as (
			insert into outbox (user_id, type, data, traceparent)
			select id, 'dev.warble.mail.requested.v1', jsonb_build_object('id', id::text), nullif(` + traceparent + `::text, '')
			from request
		)`
}

// RequestReset asks for mail with which the owner of an address chooses a password. It does the same, in one statement,
// whether or not anybody has the address.
func (db *DB) RequestReset(ctx context.Context, email string) error {
	_, err := db.exec(ctx, `
		with request as (
			insert into mail_requests (kind, address)
			values ('reset', $1)
			returning id
		),`+mailEvent("$2")+`
		select`,
		account(email), telemetry.Traceparent(ctx))
	return err
}

// AskVerification asks for another mail that verifies a user's email address, unless one is on its way: see ask_verification in
// migration 022. Errors: problem.Conflict where it is verified, problem.TooMany with the time to wait after five within the hour,
// problem.Unauthenticated where the author may not write.
func (db *DB) AskVerification(ctx context.Context, author Author) error {
	var (
		outcome string
		wait    float64
	)
	err := db.one(ctx, `
		with asked as (
			select outcome, request, wait
			from ask_verification($1, $2)
		),
		request as (
			select request as id
			from asked
			where request is not null
		),`+mailEvent("$3")+`
		select outcome, wait
		from asked`,
		[]any{author.ID, author.Session, telemetry.Traceparent(ctx)}, &outcome, &wait)
	switch {
	case err != nil:
		return err
	case outcome == "verified":
		return problem.Conflict.Detail("your email address is verified: no mail is needed")
	case outcome == "limited":
		after := time.Duration(wait * float64(time.Second))
		return problem.TooMany.Detail("five mails went to your address within the hour: ask again in %d s", problem.Seconds(after)).After(after)
	}
	return nil
}

// MailJob is a mail to send.
type MailJob struct {
	Kind  MailKind
	Email string
}

// BeginMail claims a request for a minute, and keeps the hash of the token that its mail is to carry. It returns false where
// there is nothing to send: see begin_mail in migration 019. Errors: problem.Unavailable where somebody else is sending it.
func (db *DB) BeginMail(ctx context.Context, request int64, tokenHash []byte) (job MailJob, send bool, err error) {
	var outcome string
	err = db.one(ctx, `
		select outcome, coalesce(kind, ''), coalesce(email, '')
		from begin_mail($1, $2)`,
		[]any{request, tokenHash}, &outcome, &job.Kind, &job.Email)
	if err == nil && outcome == "busy" {
		err = problem.Unavailable.Detail("the mail is being sent")
	}
	return job, outcome == "send", err
}

// FinishMail notes that a request needs no mail any more: it was sent, or never can be.
func (db *DB) FinishMail(ctx context.Context, request int64, sent bool) error {
	_, err := db.exec(ctx, `select finish_mail($1, $2)`, request, sent)
	return err
}

// ReleaseMail gives up a claim after a try that failed, so that the next need not wait for its end.
func (db *DB) ReleaseMail(ctx context.Context, request int64) error {
	_, err := db.exec(ctx, `select release_mail($1)`, request)
	return err
}

// mailed is a condition that finds the token $1 of mail of a kind, if it may still be used, in mail_tokens t, mail_requests r
// and users u.
func mailed(kind MailKind) string {
	return `t.token_hash = $1
				and t.created_at > now() - ` + mailLife[kind] + `
				and r.id = t.request
				and r.kind = '` + string(kind) + `'
				and r.used_at is null
				and u.id = r.user_id
				and u.deleted_at is null`
}

// wrongToken is one problem for every token that does not count.
func wrongToken() error {
	return problem.Invalid.Field("token", "token is not valid: it was used, has expired, or never was; ask for another mail")
}

// VerifyEmail uses a token of VerifyMail. Errors: problem.Invalid where it does not count.
func (db *DB) VerifyEmail(ctx context.Context, tokenHash []byte) error {
	var verified bool
	err := db.one(ctx, `
		with used as (
			update mail_requests r
			set used_at = now()
			from mail_tokens t, users u
			where `+mailed(VerifyMail)+`
			returning r.user_id
		),
		verified as (
			update credentials
			set verified_at = coalesce(verified_at, now())
			where user_id = (select user_id from used)
			returning 1
		)
		select exists (select from verified)`,
		[]any{tokenHash}, &verified)
	if err == nil && !verified {
		err = wrongToken()
	}
	return err
}

// Resetter returns whose password a token of ResetMail may reset, with their email address. Errors: problem.Invalid where
// the token does not count.
func (db *DB) Resetter(ctx context.Context, tokenHash []byte) (u User, email string, err error) {
	err = db.one(ctx, `
		select `+userColumns+`, c.email
		from mail_tokens t, mail_requests r, users u, credentials c
		where `+mailed(ResetMail)+`
				and c.user_id = u.id`,
		[]any{tokenHash}, &u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &email)
	if errors.Is(err, problem.NotFound) {
		err = wrongToken()
	}
	return u, email, err
}

// ResetPassword uses a token of ResetMail: it replaces the password's hash and ends all sessions. Other tokens of the kind
// count no more, failed logins are forgotten, and the address is verified, for mail to it was read. Errors:
// problem.Invalid where the token does not count.
func (db *DB) ResetPassword(ctx context.Context, tokenHash []byte, hash string) error {
	var changed bool
	err := db.one(ctx, `
		with used as (
			update mail_requests r
			set used_at = now()
			from mail_tokens t, users u
			where `+mailed(ResetMail)+`
			returning r.id, r.user_id, r.address
		),
		others as (
			update mail_requests
			set used_at = now()
			where user_id = (select user_id from used)
				and kind = 'reset'
				and used_at is null
				and id <> (select id from used)
		),
		changed as (
			update credentials
			set password_hash = $2, updated_at = now(), verified_at = coalesce(verified_at, now())
			where user_id = (select user_id from used)
			returning user_id
		),
		ended as (
			update sessions
			set revoked_at = now()
			where user_id = (select user_id from changed) and revoked_at is null
			returning id
		),
		tokens as (
			update refresh_tokens
			set revoked_at = now()
			where family in (select id from ended) and revoked_at is null
		),
		forgotten as (
			delete from login_failures
			where account = (select address from used)
		)
		select exists (select from changed)`,
		[]any{tokenHash, hash}, &changed)
	if err == nil && !changed {
		err = wrongToken()
	}
	return err
}

// posting is who may post.
type posting struct {
	verified bool // only users whose email address is verified

	mu    sync.Mutex
	known map[int64]struct{} // users found verified: nobody ceases to be
}

// maxKnown bounds how many users are remembered; past it, all are forgotten.
const maxKnown = 100_000

// PostsFromEnv reads REQUIRE_VERIFIED_EMAIL: true has MayPost refuse who has not verified their email address (false).
func (db *DB) PostsFromEnv(e *env.Reader) {
	text := e.String("REQUIRE_VERIFIED_EMAIL", "false")
	if text != "true" && text != "false" {
		e.Reject("REQUIRE_VERIFIED_EMAIL", text, "true or false")
	}
	if db != nil { // DATABASE_URL is missing, which is said elsewhere
		db.posts.verified = text == "true"
	}
}

// MayPost refuses a user who may not post. Errors: problem.Forbidden.
func (db *DB) MayPost(ctx context.Context, userID int64) error {
	p := &db.posts
	if !p.verified {
		return nil
	}
	p.mu.Lock()
	_, known := p.known[userID]
	p.mu.Unlock()
	if known {
		return nil
	}
	var verified bool
	if err := db.one(ctx, `select email_verified($1)`, []any{userID}, &verified); err != nil {
		return err
	}
	if !verified {
		return problem.Forbidden.Detail("verify your email address first: registering sent a mail with a link to it, POST /auth/verify-email/resend sends another, and a reset of the password verifies it too")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxKnown {
		p.known = make(map[int64]struct{})
	}
	p.known[userID] = struct{}{}
	return nil
}
