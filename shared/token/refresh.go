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

// NewRefresh makes a refresh token and its hash. The database stores only the hash; the token itself is stored nowhere.
func NewRefresh() (token string, hash []byte) {
	secret := make([]byte, refreshSize)
	rand.Read(secret) // never fails: it crashes the process instead
	return base64.RawURLEncoding.EncodeToString(secret), sum(secret)
}

// HashRefresh returns the hash of a token that NewRefresh made. The error is problem.Unauthenticated if the text cannot be
// such a token. A fast hash is enough, because nobody can guess 256 random bits.
func HashRefresh(token string) ([]byte, error) {
	secret, err := base64url.DecodeString(token)
	if err != nil || len(secret) != refreshSize || len(token) != base64url.EncodedLen(refreshSize) {
		return nil, problem.Unauthenticated.Detail("The refresh token is not valid.")
	}
	return sum(secret), nil
}

// Successor is a refresh token that replaces another, and its hash, which the database stores.
type Successor struct {
	Token string
	Hash  []byte
}

// Successors returns the tokens that may replace a refresh token. A successor is the token's HMAC-SHA256 under a key that is
// derived from the signing key. So the same token always has the same successor, although the database has only hashes.
// The first successor uses the present key. If this process has seen a rotation, a second uses the previous key, so that an
// answer that was lost during the rotation can be repeated. Errors: problem.Unauthenticated for a text that cannot be a
// refresh token.
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
