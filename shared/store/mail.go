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

// A mail is requested by a row of mail_requests. The row is written together with an event that has only the row's number. The
// function mail gets the event, makes a token and sends it. The database stores the hash of the token.

// MailKind is the purpose of a mail.
type MailKind string

const (
	VerifyMail MailKind = "verify" // shows that mail to the address reaches its owner
	ResetMail  MailKind = "reset"  // lets its reader choose a new password
)

// mailLife is how long the token of a mail is valid after it was sent.
var mailLife = map[MailKind]string{VerifyMail: `interval '24 hours'`, ResetMail: `interval '1 hour'`}

// mailEvent returns a CTE that writes an event for each row of the CTE request. Other events belong to a user, and are published in
// the user's order. This event has the request's id in place of the user's, because the address may belong to nobody.
// traceparent is the name of the statement's parameter.
func mailEvent(traceparent string) string {
	return `
		mail as (
			insert into outbox (user_id, type, data, traceparent)
			select id, 'dev.warble.mail.requested.v1', jsonb_build_object('id', id::text), nullif(` + traceparent + `::text, '')
			from request
		)`
}

// RequestReset requests a mail by which the owner of an address can choose a new password. It does exactly the same, in one
// statement, if nobody has the address.
func (db *DB) RequestReset(ctx context.Context, email string) error {
	_, err := db.exec(ctx, `
		with request as (
			insert into mail_requests (kind, address)
			values ('reset', $1)
			returning id
		),`+mailEvent("$2")+`
		select`,
		accountHash(email), telemetry.Traceparent(ctx))
	return err
}

// AskVerification requests another mail that verifies a user's email address, unless one is on its way: see ask_verification in
// migration 022. Errors: problem.Conflict if the address is verified already, problem.TooMany, with the time to wait, after five
// mails within an hour, and problem.Unauthenticated if the author may not write.
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

// BeginMail claims a request for a minute, and stores the hash of the token for its mail. It returns false if there is nothing to send: see
// begin_mail in migration 019. Errors: problem.Unavailable if somebody else is sending the mail.
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

// FinishMail records that a request needs no more mail: the mail was sent, or it can never be sent.
func (db *DB) FinishMail(ctx context.Context, request int64, sent bool) error {
	_, err := db.exec(ctx, `select finish_mail($1, $2)`, request, sent)
	return err
}

// ReleaseMail gives up a claim after a failed try, so that the next try does not have to wait for the end of the claim.
func (db *DB) ReleaseMail(ctx context.Context, request int64) error {
	_, err := db.exec(ctx, `select release_mail($1)`, request)
	return err
}

// validMail returns a condition on mail_tokens t, mail_requests r and users u. It finds the token $1 of a mail of this kind,
// if the token is still valid.
func validMail(kind MailKind) string {
	return `t.token_hash = $1
				and t.created_at > now() - ` + mailLife[kind] + `
				and r.id = t.request
				and r.kind = '` + string(kind) + `'
				and r.used_at is null
				and u.id = r.user_id
				and u.deleted_at is null`
}

// wrongToken returns the problem for a token that is not valid. It does not say why.
func wrongToken() error {
	return problem.Invalid.Field("token", "token is not valid: it was used, has expired, or never existed; ask for another mail")
}

// VerifyEmail uses a token of VerifyMail. Errors: problem.Invalid if the token is not valid.
func (db *DB) VerifyEmail(ctx context.Context, tokenHash []byte) error {
	var verified bool
	err := db.one(ctx, `
		with used as (
			update mail_requests r
			set used_at = now()
			from mail_tokens t, users u
			where `+validMail(VerifyMail)+`
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

// Resetter returns the user whose password a token of ResetMail may reset, and their email address. Errors: problem.Invalid if the
// token is not valid.
func (db *DB) Resetter(ctx context.Context, tokenHash []byte) (u User, email string, err error) {
	err = db.one(ctx, `
		select `+userColumns+`, c.email
		from mail_tokens t, mail_requests r, users u, credentials c
		where `+validMail(ResetMail)+`
				and c.user_id = u.id`,
		[]any{tokenHash}, &u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &email)
	if errors.Is(err, problem.NotFound) {
		err = wrongToken()
	}
	return u, email, err
}

// ResetPassword uses a token of ResetMail: it replaces the password's hash and ends all sessions. It also invalidates the user's
// other tokens of this kind, forgets failed logins, and marks the address as verified, because mail to it was read. Errors:
// problem.Invalid if the token is not valid.
func (db *DB) ResetPassword(ctx context.Context, tokenHash []byte, hash string) error {
	var changed bool
	err := db.one(ctx, `
		with used as (
			update mail_requests r
			set used_at = now()
			from mail_tokens t, users u
			where `+validMail(ResetMail)+`
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

// posting decides who may post.
type posting struct {
	verified bool // whether only users with a verified email address may post

	mu    sync.Mutex
	known map[int64]struct{} // users who are verified; nobody becomes unverified again
}

// maxKnown is how many users are remembered. When there are more, all are forgotten.
const maxKnown = 100_000

// PostsFromEnv reads REQUIRE_VERIFIED_EMAIL (false). If it is true, MayPost refuses users who have not verified their email address.
func (db *DB) PostsFromEnv(e *env.Reader) {
	text := e.String("REQUIRE_VERIFIED_EMAIL", "false")
	if text != "true" && text != "false" {
		e.Reject("REQUIRE_VERIFIED_EMAIL", text, "true or false")
	}
	if db != nil { // otherwise DATABASE_URL is missing, which FromEnv has reported
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
