// Package token makes and verifies Warble's tokens: access tokens, which are EdDSA JWTs (RFC 9068's at+jwt), and the
// refresh tokens that renew them.
//
// Only register and login hold the private key. Everything else verifies with the public set, a JWKS file that is read
// again when it changes, and calls nobody. Keys rotate in three steps, each of which may take as long as it likes:
//
//  1. NewKeyPair("next.pem", "jwks.json") adds the next key to the set; wait until every function has read it.
//  2. next.pem takes the place of private.pem: issuers read it and sign with it. Wait for TOKEN_TTL.
//  3. Remove jwks.json and run NewKeyPair("private.pem", "jwks.json"): tokens of the old key stop verifying.
package token

import (
	"errors"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"warble/shared/env"
)

// Claims are what a verified access token says.
type Claims struct {
	UserID    int64
	Session   int64 // sid; 0 in a token of the release before
	Username  string
	Community string // "" where the user is in none
	ID        string // jti
	IssuedAt  time.Time
	ExpiresAt time.Time
	Issuer    string
	Audience  string
}

// headerType is the typ of an access token (RFC 9068, section 2.1), which keeps other JWTs of the same key out.
const headerType = "at+jwt"

// party names who issues tokens and for whom.
type party struct{ issuer, audience string }

func partyFromEnv(e *env.Reader) party {
	return party{
		issuer:   e.String("TOKEN_ISSUER", "warble"),
		audience: e.String("TOKEN_AUDIENCE", "warble-api"),
	}
}

// payload is the JWT's second segment. It is narrower than RFC 7519 allows (one audience, whole seconds), as only our
// own tokens ever verify.
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

// The methods below make it jwt.Claims, by which the parser checks iss, aud, exp and iat.

func (p *payload) GetIssuer() (string, error)                   { return p.Issuer, nil }
func (p *payload) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{p.Audience}, nil }
func (p *payload) GetSubject() (string, error)                  { return p.Subject, nil }
func (p *payload) GetExpirationTime() (*jwt.NumericDate, error) { return numericDate(p.ExpiresAt), nil }
func (p *payload) GetIssuedAt() (*jwt.NumericDate, error)       { return numericDate(p.IssuedAt), nil }
func (p *payload) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }

// Validate makes it jwt.ClaimsValidator: what the parser does not require by itself.
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

// claims is for a payload that has passed Validate.
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
