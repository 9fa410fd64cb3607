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

// The requests that concern mail. Only a request for another verification mail needs a login. The others need none, because the
// token in a mail proves that the client has read the mail, and because a forgotten password must not prevent a reset.

type mailToken struct {
	Token string `json:"token"`
}

// FromRequest refuses a request without a token.
func (q *mailToken) FromRequest(*http.Request) error {
	if q.Token == "" {
		return problem.Invalid.Field("token", "token must not be empty")
	}
	return nil
}

// hash returns the hash by which the database knows a mail's token. A text that cannot be a token gets a hash that nobody has, so
// its answer is the same as for any other invalid token.
func hash(text string) []byte {
	hash, ok := token.HashMailed(text)
	if !ok {
		_, hash = token.NewMailed()
	}
	return hash
}

func (a *accounts) verifyEmail(ctx context.Context, q mailToken) (function.None, error) {
	return function.None{}, a.db.VerifyEmail(ctx, hash(q.Token))
}

// requestVerification gives the same answer if a mail has been requested already.
func (a *accounts) requestVerification(ctx context.Context, _ struct{}) (wire.Single[requested], error) {
	return wire.Single[requested]{Data: requested{true}}, a.db.AskVerification(ctx, wire.Author(ctx))
}

type resetRequest struct {
	Email string `json:"email"`
}

// maxEmail is the longest address in SMTP, in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const maxEmail = 254

// FromRequest refuses texts that cannot be the address of any account.
func (q *resetRequest) FromRequest(*http.Request) error {
	if !strings.Contains(q.Email, "@") || len(q.Email) > maxEmail {
		return problem.Invalid.Field("email", "email must be an email address of at most %d bytes", maxEmail)
	}
	return nil
}

type requested struct {
	Requested bool `json:"requested"`
}

// requestReset gives the same answer, after the same work, whether or not an account has the address. The function mail looks the
// address up later, when no client waits.
func (a *accounts) requestReset(ctx context.Context, q resetRequest) (wire.Single[requested], error) {
	return wire.Single[requested]{Data: requested{true}}, a.db.RequestReset(ctx, q.Email)
}

type passwordReset struct {
	Token string `json:"token"`
	New   string `json:"new"`
}

// FromRequest refuses requests that cannot reset a password.
func (q *passwordReset) FromRequest(*http.Request) error {
	switch {
	case q.Token == "":
		return problem.Invalid.Field("token", "token must not be empty")
	case q.New == "":
		return problem.Invalid.Field("new", "new must not be empty")
	}
	return nil
}

// resetPassword keeps the token usable if the new password is refused. It does not hash the password if the token is not valid.
func (a *accounts) resetPassword(ctx context.Context, q passwordReset) (function.None, error) {
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
