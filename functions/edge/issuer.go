package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/rs/zerolog"

	"warble/shared/experiment"
)

const (
	// keysInterval is how often an issuer's keys are read.
	keysInterval = 10 * time.Minute
	// keysPause is the shortest time between two readings outside the schedule: because a token has an unknown key, or because the
	// issuer did not answer the last time.
	keysPause = 10 * time.Second
	// keysTimeout limits one reading. The request that caused it waits for it.
	keysTimeout = 3 * time.Second
	// keysBytes is how much of an issuer's answer is read.
	keysBytes = 1 << 20
	// verifiedTokens is how many verified tokens of an issuer are remembered.
	verifiedTokens = 10_000
	// tokenLeeway is how much the clocks of an issuer and the edge may differ.
	tokenLeeway = 30 * time.Second
)

// asymmetric lists the accepted algorithms. A key is used only with its own algorithm. In particular, symmetric algorithms are
// refused: they would use the public key, which everybody knows, as the secret.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// issuers has the issuers that experiments in force name. The zero value has none.
type issuers struct {
	log zerolog.Logger

	mu  sync.Mutex
	all map[string]*issuer // by URL
}

// issuer holds the key set of one issuer.
type issuer struct {
	url    string
	client *http.Client
	pause  time.Duration

	reading       sync.Mutex // held while keys are read
	lastTry       time.Time  // when reading last began; guarded by reading
	failureLogged bool       // whether a failure has been logged; guarded by reading

	mu       sync.RWMutex
	keys     map[string]publicKey // by kid
	raw      []byte               // the key set's text
	verified *lru.Cache[[sha256.Size]byte, verified]
}

// publicKey is a key with its algorithm; an empty algorithm stands for any that fits the key's type.
type publicKey struct {
	key       any
	algorithm string
}

// verified is the caller that a token names, until the token expires.
type verified struct {
	caller  caller
	expires time.Time
}

// keepOnly forgets the issuers that no experiment in force names.
func (i *issuers) keepOnly(experiments []experiment.Rules) {
	i.mu.Lock()
	defer i.mu.Unlock()
	kept := make(map[string]*issuer)
	for _, e := range experiments {
		by := e.Identity.Issuer
		if by == nil {
			continue
		}
		if kept[by.URL] = i.all[by.URL]; kept[by.URL] == nil {
			kept[by.URL] = newIssuer(by.URL)
		}
	}
	i.all = kept
}

func newIssuer(url string) *issuer {
	cache, err := lru.New[[sha256.Size]byte, verified](verifiedTokens)
	if err != nil {
		panic(err) // the size is not negative
	}
	return &issuer{
		url: url, pause: keysPause, verified: cache,
		client: &http.Client{Timeout: keysTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// refresh reads each issuer's keys if they are due.
func (i *issuers) refresh(ctx context.Context) error {
	i.mu.Lock()
	var all []*issuer
	for _, one := range i.all {
		all = append(all, one)
	}
	i.mu.Unlock()
	for _, one := range all {
		one.read(ctx, i.log, keysInterval, "")
	}
	return nil
}

// verify returns the caller that a token names; the zero caller if the token is not valid.
func (i *issuers) verify(ctx context.Context, by *experiment.Issuer, token string, now time.Time) caller {
	i.mu.Lock()
	one := i.all[by.URL]
	i.mu.Unlock()
	if one == nil {
		return caller{}
	}
	hash := sha256.Sum256([]byte(strings.Join([]string{by.Audience, by.UserClaim, by.CommunityClaim, token}, "\n")))
	if known, ok := one.verified.Get(hash); ok && now.Before(known.expires) {
		return known.caller
	}
	found, err := one.check(ctx, i.log, by, token)
	if err != nil {
		return caller{} // the guest decides what to do with such a token
	}
	one.verified.Add(hash, found)
	return found.caller
}

func (o *issuer) check(ctx context.Context, log zerolog.Logger, by *experiment.Issuer, token string) (verified, error) {
	claims := jwt.MapClaims{}
	parser := jwt.NewParser(jwt.WithValidMethods(asymmetric), jwt.WithIssuer(by.URL), jwt.WithAudience(by.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(tokenLeeway), jwt.WithJSONNumber())
	_, err := parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		key, err := o.key(ctx, log, kid)
		if err != nil {
			return nil, err
		}
		if key.algorithm != "" && key.algorithm != t.Method.Alg() {
			return nil, fmt.Errorf("the key is for %s and not for %s", key.algorithm, t.Method.Alg())
		}
		return key.key, nil
	})
	if err != nil {
		return verified{}, err
	}
	name := by.UserClaim
	if name == "" {
		name = "sub"
	}
	from := caller{id: textOf(claims[name]), community: textOf(claims[by.CommunityClaim])}
	if err := experiment.CheckUnit(from.id); err != nil {
		return verified{}, fmt.Errorf("claim %s: %w", name, err)
	}
	expires, err := claims.GetExpirationTime()
	if err != nil {
		return verified{}, err
	}
	return verified{from, expires.Time}, nil
}

// textOf returns a claim that is a string or a number; empty for anything else.
func textOf(claim any) string {
	switch c := claim.(type) {
	case string:
		return c
	case json.Number:
		return c.String()
	}
	return ""
}

// key finds a key by its id. If the id is unknown, key reads the key set first, unless it was read a moment ago.
func (o *issuer) key(ctx context.Context, log zerolog.Logger, kid string) (publicKey, error) {
	key, ok := o.known(kid)
	if !ok && kid != "" {
		o.read(ctx, log, o.pause, kid)
		key, ok = o.known(kid)
	}
	if !ok {
		return publicKey{}, fmt.Errorf("%s has no key %q", o.url, kid)
	}
	return key, nil
}

func (o *issuer) known(kid string) (publicKey, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	key, ok := o.keys[kid]
	return key, ok
}

// read reads the key set if the last try was at least the time `every` ago. After a failure, the pause is enough. It does not read
// if another reading has meanwhile found the key kid. If reading fails, the old keys stay.
func (o *issuer) read(ctx context.Context, log zerolog.Logger, every time.Duration, kid string) {
	o.reading.Lock()
	defer o.reading.Unlock()
	if o.failureLogged {
		every = min(every, o.pause)
	}
	if _, ok := o.known(kid); ok || time.Since(o.lastTry) < every {
		return
	}
	o.lastTry = time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout) // other requests wait for this reading too
	defer cancel()
	raw, keys, err := o.fetch(ctx)
	if err != nil {
		if !o.failureLogged {
			log.Warn().Err(err).Str("issuer", o.url).Msg("cannot read an issuer's keys: the old keys stay in use")
		}
		o.failureLogged = true
		return
	}
	o.failureLogged = false
	o.mu.Lock()
	defer o.mu.Unlock()
	if !bytes.Equal(raw, o.raw) {
		o.keys, o.raw = keys, raw
		o.verified.Purge() // because a key may have been withdrawn
	}
}

// fetch finds the key set by OpenID Connect Discovery 1.0, section 4, and returns its text and keys.
func (o *issuer) fetch(ctx context.Context) (raw []byte, keys map[string]publicKey, err error) {
	text, err := o.get(ctx, strings.TrimSuffix(o.url, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, nil, err
	}
	var found struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, nil, fmt.Errorf("configuration of %s: %w", o.url, err)
	}
	at, err := url.Parse(found.Keys)
	if err != nil || at.Host == "" || at.Scheme != "https" && !strings.HasPrefix(o.url, "http://") {
		return nil, nil, fmt.Errorf("configuration of %s: jwks_uri %q: expected a URL with https", o.url, found.Keys)
	}
	if found.Issuer != o.url {
		return nil, nil, fmt.Errorf("configuration of %s: issuer is %q: expected the URL from which it was read", o.url, found.Issuer)
	}
	if raw, err = o.get(ctx, found.Keys); err != nil {
		return nil, nil, err
	}
	keys, err = parseKeys(raw)
	return raw, keys, err
}

func (o *issuer) get(ctx context.Context, at string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := o.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, keysBytes))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", at, answer.Status)
	}
	return text, err
}

// parseKeys returns the public keys for signatures, by their ids. It skips all other keys.
func parseKeys(text []byte) (map[string]publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	keys := make(map[string]publicKey)
	for _, one := range set.Keys {
		parsed, err := jwkset.NewJWKFromRawJSON(one, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue // an unknown type of key
		}
		says := parsed.Marshal()
		if says.KID == "" || says.USE != "" && says.USE != jwkset.UseSig {
			continue
		}
		switch parsed.Key().(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			keys[says.KID] = publicKey{parsed.Key(), string(says.ALG)}
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("key set: expected an RSA, ECDSA or Ed25519 public key with a kid")
	}
	return keys, nil
}
