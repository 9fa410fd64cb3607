package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"warble/shared/env"
	"warble/shared/problem"
)

const (
	leeway    = 30 * time.Second // between the clocks of issuer and verifier
	maxToken  = 2048             // bytes; ours have about 450, and a longer token is refused without hashing it
	cacheSize = 8192             // tokens; about 5 MB when full
)

// Verifier verifies access tokens with the public key set. It is safe for concurrent use.
type Verifier struct {
	keys   *watched[keySet]
	parser *jwt.Parser
	cache  *lru.Cache[digest, *verified]
	now    func() time.Time
}

// digest is the SHA-256 of a token. The cache has no tokens, so a memory dump reveals none from it.
type digest = [sha256.Size]byte

type verified struct {
	claims Claims
	kid    string
}

// VerifierFromEnv reads TOKEN_PUBLIC_KEYS_FILE (a JWKS of Ed25519 keys, read again when it changes), TOKEN_ISSUER
// (warble) and TOKEN_AUDIENCE (warble-api).
func VerifierFromEnv(e *env.Reader) *Verifier {
	file := e.Required("TOKEN_PUBLIC_KEYS_FILE", "the path of a JSON Web Key Set")
	return newVerifier(watch(e, "TOKEN_PUBLIC_KEYS_FILE", file, parseKeySet), partyFromEnv(e), time.Now)
}

func newVerifier(keys *watched[keySet], p party, now func() time.Time) *Verifier {
	cache, err := lru.New[digest, *verified](cacheSize)
	if err != nil {
		panic(err) // only a size below 1 is refused
	}
	return &Verifier{
		keys:  keys,
		cache: cache,
		now:   now,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithStrictDecoding(),
			jwt.WithIssuer(p.issuer),
			jwt.WithAudience(p.audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
			jwt.WithTimeFunc(now),
		),
	}
}

// Verify returns the claims of an access token, which is the text after "Bearer " in the header. An error is a
// problem.Unauthenticated whose cause says what is wrong with the token.
func (v *Verifier) Verify(bearer string) (Claims, error) {
	if len(bearer) > maxToken {
		return Claims{}, problem.Unauthenticated.Because(fmt.Errorf("a token of %d bytes", len(bearer)))
	}
	now := v.now()
	keys := v.keys.get(now)
	sum := sha256.Sum256([]byte(bearer))
	if hit, ok := v.cache.Get(sum); ok {
		if now.Before(hit.claims.ExpiresAt) && keys.byID[hit.kid] != nil {
			return hit.claims, nil
		}
		v.cache.Remove(sum) // expired, or its key is no longer accepted
	}
	fresh, err := v.parse(bearer, keys)
	if err != nil {
		return Claims{}, refusal(err)
	}
	if now.Before(fresh.claims.ExpiresAt) { // a token that is accepted only by the leeway is not cached
		v.cache.Add(sum, fresh)
	}
	return fresh.claims, nil
}

// parse verifies the signature and every claim.
func (v *Verifier) parse(bearer string, keys *keySet) (*verified, error) {
	if strings.ContainsAny(bearer, "\r\n") {
		return nil, errors.New("a line break in the token") // even strict base64 ignores line breaks
	}
	var p payload
	var kid string
	_, err := v.parser.ParseWithClaims(bearer, &p, func(t *jwt.Token) (any, error) {
		var key ed25519.PublicKey
		var err error
		kid, key, err = keys.keyFor(t.Header)
		return key, err
	})
	if err != nil {
		return nil, err
	}
	return &verified{p.claims(), kid}, nil
}

// keyFor returns the key that the header names. A key inside the header or behind its URL (jwk, jku, x5c, x5u) could be an
// attacker's, and is not used. An extension that must be understood (crit) is refused, because none is supported.
func (s *keySet) keyFor(header map[string]any) (string, ed25519.PublicKey, error) {
	if header["typ"] != headerType {
		return "", nil, fmt.Errorf("typ is not %s", headerType)
	}
	if _, critical := header["crit"]; critical {
		return "", nil, errors.New("crit is not understood")
	}
	kid, _ := header["kid"].(string)
	key := s.byID[kid]
	if key == nil {
		return "", nil, errors.New("kid names no key of the set")
	}
	return kid, key, nil
}

func refusal(err error) error {
	if errors.Is(err, jwt.ErrTokenExpired) {
		return problem.Unauthenticated.Detail("The token has expired.").Because(err)
	}
	return problem.Unauthenticated.Because(err)
}

// KeySet returns the accepted keys as a JSON Web Key Set. The caller must not change it.
func (v *Verifier) KeySet() []byte { return v.keys.get(v.now()).jwks }

// Ready returns why a changed key file cannot be used; nil if it can. Until then the previous keys verify.
func (v *Verifier) Ready(context.Context) error { return v.keys.check() }

// Close does nothing: a Verifier holds no resources.
func (v *Verifier) Close() {}
