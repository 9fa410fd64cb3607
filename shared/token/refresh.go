package token

import (
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

func sum(secret []byte) []byte {
	hash := sha256.Sum256(secret)
	return hash[:]
}
