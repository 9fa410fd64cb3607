package main

import (
	"context"
	"net/http"
	"strconv"

	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of account.
func New(db *store.DB, tokens *token.Verifier, passwords *password.Hasher, policy *policy.Policy) function.Routes {
	a := &accounts{db, passwords, policy}
	authenticated := function.Authenticated(tokens, db.Seen, nil)
	user := func(next http.Handler) http.Handler { return noStore(authenticated(next)) }
	return function.Routes{
		"PUT /auth/password":         user(function.JSON(a.changePassword)),
		"GET /auth/sessions":         user(function.JSON(a.sessions)),
		"DELETE /auth/sessions":      user(function.JSON(a.endOtherSessions)),
		"DELETE /auth/sessions/{id}": user(function.JSON(a.endSession)),
		"GET /auth/export":           user(http.HandlerFunc(a.export)),
		"DELETE /auth/account":       user(function.JSON(a.delete, function.WithBody(), function.Status(http.StatusAccepted))),

		"POST /auth/verify-email/resend": user(function.JSON(a.requestVerification, function.Status(http.StatusAccepted))),

		"POST /auth/verify-email":           noStore(function.JSON(a.verifyEmail)),
		"POST /auth/password-reset":         noStore(function.JSON(a.requestReset, function.Status(http.StatusAccepted))),
		"POST /auth/password-reset/confirm": noStore(function.JSON(a.resetPassword)),
	}
}

// noStore keeps all answers, including refusals, out of caches.
func noStore(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

type accounts struct {
	db        *store.DB
	passwords *password.Hasher
	policy    *policy.Policy
}

type passwordChange struct {
	Current string `json:"current"`
	New     string `json:"new"`
}

// FromRequest refuses requests that cannot change a password.
func (q *passwordChange) FromRequest(*http.Request) error {
	switch {
	case q.Current == "":
		return problem.Invalid.Field("current", "current must not be empty")
	case q.New == "":
		return problem.Invalid.Field("new", "new must not be empty")
	}
	return nil
}

// changePassword also ends all other sessions, because somebody else may know the old password.
func (a *accounts) changePassword(ctx context.Context, q passwordChange) (function.None, error) {
	attempt, email, err := a.confirm(ctx, "current", q.Current)
	if err != nil {
		return function.None{}, err
	}
	next := password.Normalize(q.New)
	if err := a.policy.Check("new", next, policy.Person{Name: attempt.User.Name, Username: attempt.User.Username, Email: email}); err != nil {
		return function.None{}, err
	}
	hash, err := a.passwords.Hash(ctx, next)
	if err != nil {
		return function.None{}, err
	}
	return function.None{}, a.db.ChangePassword(ctx, wire.Author(ctx), attempt, hash)
}

// confirm checks that text is the caller's password. member names the member of the request that has the text. A wrong password is
// a 403 and counts as a failed login. Otherwise somebody with a stolen access token could try any number of passwords.
func (a *accounts) confirm(ctx context.Context, member, text string) (store.LoginAttempt, string, error) {
	credentials, err := a.db.Credentials(ctx, function.Caller(ctx).UserID)
	if err != nil {
		return store.LoginAttempt{}, "", err
	}
	attempt, err := a.db.BeginLogin(ctx, credentials.Email, wire.Client(ctx))
	if err != nil {
		return store.LoginAttempt{}, "", err
	}
	match, _, err := a.passwords.Compare(ctx, text, attempt.PasswordHash)
	if err != nil {
		return store.LoginAttempt{}, "", err
	}
	if !match {
		if err := a.db.FailLogin(ctx, attempt); err != nil {
			return store.LoginAttempt{}, "", err
		}
		return store.LoginAttempt{}, "", problem.Forbidden.Field(member, "%s is not your password", member)
	}
	return attempt, credentials.Email, nil
}

type session struct {
	ID         string `json:"id"`
	CreatedAt  string `json:"created_at"`
	LastUsedAt string `json:"last_used_at"`
	Network    string `json:"network"`    // "" if unknown
	UserAgent  string `json:"user_agent"` // "" if unknown
	Current    bool   `json:"current"`    // the session of this request
}

func newSession(s store.Session, current int64) session {
	return session{
		ID:         strconv.FormatInt(s.ID, 10),
		CreatedAt:  wire.Time(s.CreatedAt),
		LastUsedAt: wire.Time(s.LastUsedAt),
		Network:    s.From.Network,
		UserAgent:  s.From.UserAgent,
		Current:    s.ID == current,
	}
}

func (a *accounts) sessions(ctx context.Context, _ struct{}) (wire.List[session], error) {
	caller := function.Caller(ctx)
	found, err := a.db.Sessions(ctx, caller.UserID)
	list := wire.List[session]{Data: make([]session, len(found)), Meta: wire.Meta{ResultCount: len(found)}}
	for n, s := range found {
		list.Data[n] = newSession(s, caller.Session)
	}
	return list, err
}

func (a *accounts) endOtherSessions(ctx context.Context, _ struct{}) (function.None, error) {
	return function.None{}, a.db.EndOtherSessions(ctx, wire.Author(ctx))
}

type sessionID struct{ id int64 }

// FromRequest reads the id in the path.
func (q *sessionID) FromRequest(r *http.Request) (err error) {
	q.id, err = function.PathID(r, "id")
	return err
}

func (a *accounts) endSession(ctx context.Context, q sessionID) (function.None, error) {
	return function.None{}, a.db.EndSessionByID(ctx, wire.Author(ctx), q.id)
}

type confirmation struct {
	Password string `json:"password"`
}

// FromRequest refuses a deletion without a password.
func (q *confirmation) FromRequest(*http.Request) error {
	if q.Password == "" {
		return problem.Invalid.Field("password", "password must not be empty")
	}
	return nil
}

type deleted struct {
	Deleted bool `json:"deleted"`
}

// delete hides the account immediately. The rest is deleted within a day: see store.FinishDeletions.
func (a *accounts) delete(ctx context.Context, q confirmation) (wire.Single[deleted], error) {
	if _, _, err := a.confirm(ctx, "password", q.Password); err != nil {
		return wire.Single[deleted]{}, err
	}
	return wire.Single[deleted]{Data: deleted{true}}, a.db.DeleteAccount(ctx, wire.Author(ctx))
}
