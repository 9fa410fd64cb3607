package token

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"warble/shared/env"
)

// Issuer signs access tokens. It is safe for concurrent use.
type Issuer struct {
	party
	ttl time.Duration
	key *watched[signingKey]
	now func() time.Time
}

type signingKey struct {
	private ed25519.PrivateKey
	id      string
	refresh []byte // makes the successors of refresh tokens, and is used for nothing else
}

// IssuerFromEnv reads TOKEN_PRIVATE_KEY_FILE (a PEM file with an Ed25519 key as PKCS#8, read again when it changes),
// TOKEN_TTL (1h), TOKEN_ISSUER (warble) and TOKEN_AUDIENCE (warble-api).
func IssuerFromEnv(e *env.Reader) *Issuer {
	i := &Issuer{
		party: partyFromEnv(e),
		ttl:   e.Duration("TOKEN_TTL", time.Hour, time.Minute, 24*time.Hour),
		now:   time.Now,
	}
	file := e.Required("TOKEN_PRIVATE_KEY_FILE", "the path of a PEM file with an Ed25519 private key")
	i.key = watch(e, "TOKEN_PRIVATE_KEY_FILE", file, parseSigningKey)
	return i
}

// Subject is the user for whom a token is issued.
type Subject struct {
	UserID    int64
	Session   int64 // 0 for none
	Username  string
	Community string // "" if the user is in none
}

// Issue signs an access token for s, and returns when it expires.
func (i *Issuer) Issue(s Subject) (token string, expires time.Time, err error) {
	now := i.now()
	key := i.key.get(now)
	issued := now.Unix()
	expires = time.Unix(issued, 0).Add(i.ttl).UTC()
	session := ""
	if s.Session != 0 {
		session = strconv.FormatInt(s.Session, 10)
	}
	jot := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &payload{
		Issuer:    i.issuer,
		Audience:  i.audience,
		Subject:   strconv.FormatInt(s.UserID, 10),
		IssuedAt:  issued,
		ExpiresAt: expires.Unix(),
		ID:        rand.Text(),
		Username:  s.Username,
		Community: s.Community,
		Session:   session,
	})
	jot.Header["typ"] = headerType
	jot.Header["kid"] = key.id
	token, err = jot.SignedString(key.private)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	return token, expires, nil
}

// Ready returns why a changed key file cannot be used; nil if it can. Until then the previous key signs.
func (i *Issuer) Ready(context.Context) error { return i.key.check() }

// Close does nothing: an Issuer holds no resources.
func (i *Issuer) Close() {}

func parseSigningKey(text []byte) (*signingKey, error) {
	private, err := parsePrivate(text)
	if err != nil {
		return nil, err
	}
	refresh, err := hkdf.Key(sha256.New, private.Seed(), nil, "warble refresh token successor", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of refresh tokens: %w", err)
	}
	return &signingKey{private, thumbprint(public(private)), refresh}, nil
}
