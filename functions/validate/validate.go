package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"warble/shared/function"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// New returns the routes of validate.
func New(tokens *token.Verifier, metrics *telemetry.AuthMetrics) function.Routes {
	v := &validation{tokens, metrics}
	claims := v.countAttempts(function.Authenticated(tokens, nil, nil)(function.JSON(v.claims)))
	return function.Routes{
		"GET /auth/validate":  claims,
		"POST /auth/validate": claims,
		// A rotation adds a key well before the key is used, so a key set that is five minutes old does no harm.
		"GET /.well-known/jwks.json": function.JSON(v.keys, function.Tagged(), function.Header("Cache-Control", "public, max-age=300")),
	}
}

type validation struct {
	tokens  *token.Verifier
	metrics *telemetry.AuthMetrics
}

// answer has the claims of a verified token, with the names of RFC 7519. id repeats sub, because a user object has the member id.
type answer struct {
	Subject   string `json:"sub"`
	ID        string `json:"id"`
	Username  string `json:"username"`
	Community string `json:"community"` // "" if the user is in none
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	TokenID   string `json:"jti"`
	Session   string `json:"sid,omitempty"`
}

func (v *validation) claims(ctx context.Context, _ struct{}) (answer, error) {
	v.metrics.Validated()
	c := function.Caller(ctx)
	session := ""
	if c.Session != 0 {
		session = strconv.FormatInt(c.Session, 10)
	}
	id := strconv.FormatInt(c.UserID, 10)
	return answer{
		Subject:   id,
		ID:        id,
		Username:  c.Username,
		Community: c.Community,
		IssuedAt:  c.IssuedAt.Unix(),
		ExpiresAt: c.ExpiresAt.Unix(),
		Issuer:    c.Issuer,
		Audience:  c.Audience,
		TokenID:   c.ID,
		Session:   session,
	}, nil
}

func (v *validation) keys(context.Context, struct{}) (json.RawMessage, error) {
	return v.tokens.KeySet(), nil
}

// countAttempts counts each token, valid or not. It keeps all answers, including refusals, out of caches.
func (v *validation) countAttempts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.metrics.Validation()
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
