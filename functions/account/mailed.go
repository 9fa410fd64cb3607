package main

import (
	"context"
	"net/http"
	"strings"

	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/problem"
	"warble/shared/token"
	"warble/shared/wire"
)

// What mail is about. Only who asks to be verified is logged in here: who has the token of a mail has read it.

type mailed struct {
	Token string `json:"token"`
}

// FromRequest refuses a request without a token.
func (q *mailed) FromRequest(*http.Request) error {
	if q.Token == "" {
		return problem.Invalid.Field("token", "token must not be empty")
	}
	return nil
}

// hash is what the database knows a mail's token by. A text that cannot be one gets a hash that is nobody's, and so the
// answer of every token that does not count.
func hash(text string) []byte {
	hash, ok := token.HashMailed(text)
	if !ok {
		_, hash = token.NewMailed()
	}
	return hash
}

func (a *accounts) verifyEmail(ctx context.Context, q mailed) (function.None, error) {
	return function.None{}, a.db.VerifyEmail(ctx, hash(q.Token))
}

// askVerification says the same where a mail is on its way already.
func (a *accounts) askVerification(ctx context.Context, _ struct{}) (wire.Single[requested], error) {
	return wire.Single[requested]{Data: requested{true}}, a.db.AskVerification(ctx, wire.Author(ctx))
}

type forgetful struct {
	Email string `json:"email"`
}

// maxEmail is what SMTP lets an address have (RFC 5321, section 4.5.3.1.3, without its brackets).
const maxEmail = 254

// FromRequest refuses what can be nobody's address, whoever has an account.
func (q *forgetful) FromRequest(*http.Request) error {
	if !strings.Contains(q.Email, "@") || len(q.Email) > maxEmail {
		return problem.Invalid.Field("email", "email must be an email address of at most %d bytes", maxEmail)
	}
	return nil
}

type requested struct {
	Requested bool `json:"requested"`
}

// requestReset says the same, after the same work, whether or not anybody has the address: function mail looks it up, when
// nobody waits for the answer.
func (a *accounts) requestReset(ctx context.Context, q forgetful) (wire.Single[requested], error) {
	return wire.Single[requested]{Data: requested{true}}, a.db.RequestReset(ctx, q.Email)
}

type reset struct {
	Token string `json:"token"`
	New   string `json:"new"`
}

// FromRequest refuses what cannot be a reset.
func (q *reset) FromRequest(*http.Request) error {
	switch {
	case q.Token == "":
		return problem.Invalid.Field("token", "token must not be empty")
	case q.New == "":
		return problem.Invalid.Field("new", "new must not be empty")
	}
	return nil
}

// resetPassword leaves the token as it is where the password is refused, and hashes nothing for a token that does not count.
func (a *accounts) resetPassword(ctx context.Context, q reset) (function.None, error) {
	used := hash(q.Token)
	user, email, err := a.db.Resetter(ctx, used)
	if err != nil {
		return function.None{}, err
	}
	next := password.Normalize(q.New)
	if err := a.policy.Check("new", next, policy.Person{Name: user.Name, Username: user.Username, Email: email}); err != nil {
		return function.None{}, err
	}
	hashed, err := a.passwords.Hash(ctx, next)
	if err != nil {
		return function.None{}, err
	}
	return function.None{}, a.db.ResetPassword(ctx, used, hashed)
}
