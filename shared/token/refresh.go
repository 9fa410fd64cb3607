package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"warble/shared/problem"
)

// refreshSize is the entropy of a refresh token in bytes: 256 bits.
const refreshSize = 32

// NewRefresh makes a refresh token and the hash under which the database knows it. The token itself is stored nowhere.
func NewRefresh() (token string, hash []byte) {
	secret := make([]byte, refreshSize)
	rand.Read(secret) // never fails: it crashes the process instead
	return base64.RawURLEncoding.EncodeToString(secret), sum(secret)
}

// HashRefresh returns the hash of a token that NewRefresh made, or problem.Unauthenticated for a text that cannot be
// one. A fast hash is enough: nobody searches 256 random bits.
func HashRefresh(token string) ([]byte, error) {
	secret, err := base64url.DecodeString(token)
	if err != nil || len(secret) != refreshSize || len(token) != base64url.EncodedLen(refreshSize) {
		return nil, problem.Unauthenticated.Detail("The refresh token is not valid.")
	}
	return sum(secret), nil
}

// Successor is a refresh token that takes another's place, and the hash under which the database knows it.
type Successor struct {
	Token string
	Hash  []byte
}

// Successors returns what may take the place of a refresh token: HMAC-SHA256 of it under a key derived from the signing
// key, so that the same token has the same successor although the database holds only hashes. The first one is of the
// present key. A second one is of the key before, where this process has seen the key rotate: an answer that was lost
// then can still be given again. Errors: problem.Unauthenticated for a text that cannot be a refresh token.
func (i *Issuer) Successors(token string) ([]Successor, error) {
	if _, err := HashRefresh(token); err != nil {
		return nil, err
	}
	keys := []*signingKey{i.key.get(i.now())}
	if before := i.key.before.Load(); before != nil {
		keys = append(keys, before)
	}
	successors := make([]Successor, len(keys))
	for n, key := range keys {
		mac := hmac.New(sha256.New, key.refresh)
		mac.Write([]byte(token))
		secret := mac.Sum(nil)
		successors[n] = Successor{base64url.EncodeToString(secret), sum(secret)}
	}
	return successors, nil
}

func sum(secret []byte) []byte {
	hash := sha256.Sum256(secret)
	return hash[:]
}
