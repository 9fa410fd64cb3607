// Package token makes and verifies Warble's tokens: access tokens, which are EdDSA JWTs (RFC 9068's at+jwt), and the
// refresh tokens that renew them.
//
// Only register and login have the private key. All other functions verify with the public key set, a JWKS file that is read
// again when it changes. They call no other service for this. Keys rotate in three steps, with any time between them:
//
//  1. NewKeyPair("next.pem", "jwks.json") adds the next key to the set. Wait until every function has read it.
//  2. Replace private.pem by next.pem: issuers read it and sign with it. Wait for TOKEN_TTL.
//  3. Remove jwks.json and run NewKeyPair("private.pem", "jwks.json"): tokens of the old key no longer verify.
package token

import (
	"errors"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"warble/shared/env"
)

// Claims are the claims of a verified access token.
type Claims struct {
	UserID    int64
	Session   int64 // sid; 0 in a token of the previous release
	Username  string
	Community string // "" if the user is in none
	ID        string // jti
	IssuedAt  time.Time
	ExpiresAt time.Time
	Issuer    string
	Audience  string
}

// headerType is the typ of an access token (RFC 9068, section 2.1). It excludes other JWTs that the same key signed.
const headerType = "at+jwt"

// party names the issuer and the audience of tokens.
type party struct{ issuer, audience string }

func partyFromEnv(e *env.Reader) party {
	return party{
		issuer:   e.String("TOKEN_ISSUER", "warble"),
		audience: e.String("TOKEN_AUDIENCE", "warble-api"),
	}
}

// payload is the JWT's second segment. It is stricter than RFC 7519 (one audience, whole seconds), because only our own
// tokens are verified.
type payload struct {
	Issuer    string `json:"iss"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	ID        string `json:"jti"`
	Username  string `json:"username"`
	Community string `json:"community"`
	Session   string `json:"sid,omitempty"`
}

// The methods below implement jwt.Claims, with which the parser checks iss, aud, exp and iat.

func (p *payload) GetIssuer() (string, error)                   { return p.Issuer, nil }
func (p *payload) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{p.Audience}, nil }
func (p *payload) GetSubject() (string, error)                  { return p.Subject, nil }
func (p *payload) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(p.ExpiresAt), nil }
func (p *payload) GetIssuedAt() (*jwt.NumericDate, error)       { return numericDate(p.IssuedAt), nil }
func (p *payload) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }

// Validate implements jwt.ClaimsValidator. It checks claims that the parser does not require.
func (p *payload) Validate() error {
	if p.IssuedAt == 0 || p.ID == "" || p.Username == "" {
		return errors.New("iat, jti or username is missing")
	}
	if id, err := strconv.ParseInt(p.Subject, 10, 64); err != nil || id <= 0 {
		return errors.New("sub is not a user's id")
	}
	if id, err := strconv.ParseInt(p.Session, 10, 64); p.Session != "" && (err != nil || id <= 0) {
		return errors.New("sid is not a session's id")
	}
	return nil
}

func numericDate(seconds int64) *jwt.NumericDate {
	if seconds == 0 {
		return nil
	}
	return &jwt.NumericDate{Time: time.Unix(seconds, 0)}
}

// claims returns the claims of a payload that has passed Validate.
func (p *payload) claims() Claims {
	id, _ := strconv.ParseInt(p.Subject, 10, 64)
	session, _ := strconv.ParseInt(p.Session, 10, 64)
	return Claims{
		UserID:    id,
		Session:   session,
		Username:  p.Username,
		Community: p.Community,
		ID:        p.ID,
		IssuedAt:  time.Unix(p.IssuedAt, 0),
		ExpiresAt: time.Unix(p.ExpiresAt, 0),
		Issuer:    p.Issuer,
		Audience:  p.Audience,
	}
}
