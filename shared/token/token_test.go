package token

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/env"
	"warble/shared/problem"
)

// keys is a pair of key files with an issuer and a verifier that read them, under one clock that a test moves.
type keys struct {
	private, public string
	issuer          *Issuer
	verifier        *Verifier
	clock           atomic.Int64 // Unix nanoseconds
}

var start = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func newKeys(t testing.TB) *keys {
	t.Helper()
	folder := t.TempDir()
	k := &keys{private: filepath.Join(folder, "private.pem"), public: filepath.Join(folder, "jwks.json")}
	if err := NewKeyPair(k.private, k.public); err != nil {
		t.Fatal(err)
	}
	e := reader(map[string]string{"TOKEN_PRIVATE_KEY_FILE": k.private, "TOKEN_PUBLIC_KEYS_FILE": k.public})
	k.clock.Store(start.UnixNano())
	k.issuer = IssuerFromEnv(e)
	k.issuer.now = k.now
	k.verifier = newVerifier(watch(e, "TOKEN_PUBLIC_KEYS_FILE", k.public, parseKeySet), partyFromEnv(e), k.now)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keys) now() time.Time            { return time.Unix(0, k.clock.Load()).UTC() }
func (k *keys) advance(by time.Duration)  { k.clock.Add(int64(by)) }
func (k *keys) issue(t testing.TB) string { return k.issueFor(t, 42) }
func (k *keys) signer(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(k.private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parsePrivate(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (k *keys) issueFor(t testing.TB, id int64) string {
	t.Helper()
	text, _, err := k.issuer.Issue(Subject{UserID: id, Username: "ada", Community: "gophers"})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func reader(variables map[string]string) *env.Reader {
	return env.New(func(name string) (string, bool) { v, ok := variables[name]; return v, ok })
}

func TestIssueAndVerify(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	text, expires, err := k.issuer.Issue(Subject{UserID: 42, Session: 43, Username: "ada", Community: "gophers"})
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{
		UserID:    42,
		Session:   43,
		Username:  "ada",
		Community: "gophers",
		IssuedAt:  start,
		ExpiresAt: start.Add(time.Hour),
		Issuer:    "warble",
		Audience:  "warble-api",
	}
	if !expires.Equal(want.ExpiresAt) {
		t.Errorf("expires %v, want %v", expires, want.ExpiresAt)
	}
	for _, way := range []string{"parsed", "cached"} {
		got, err := k.verifier.Verify(text)
		if err != nil {
			t.Fatal(way, err)
		}
		if len(got.ID) < 22 {
			t.Errorf("%s: jti %q has less than 128 bits", way, got.ID)
		}
		got.ID = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", way, diff)
		}
	}
	if n := k.verifier.cache.Len(); n != 1 {
		t.Errorf("%d tokens cached, want 1", n)
	}

	var header map[string]string
	segment, _, _ := strings.Cut(text, ".")
	raw, _ := base64url.DecodeString(segment)
	if err := json.Unmarshal(raw, &header); err != nil {
		t.Fatal(err)
	}
	kid := thumbprint(public(k.signer(t)))
	if diff := cmp.Diff(map[string]string{"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, header); diff != "" {
		t.Error(diff)
	}
}

// TestThumbprint checks the example of RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	key, err := base64url.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := thumbprint(key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
}

// forge signs what no issuer of ours would.
func (k *keys) forge(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	input := segment(t, header) + "." + segment(t, claims)
	return input + "." + base64url.EncodeToString(ed25519.Sign(k.signer(t), []byte(input)))
}

func segment(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64url.EncodeToString(text)
}

func TestVerifyRefusesWrongTokens(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	kid := thumbprint(public(k.signer(t)))
	// with returns a copy of a good header or payload with one member changed, or removed if value is nil.
	with := func(good map[string]any, name string, value any) map[string]any {
		changed := map[string]any{}
		for key, v := range good {
			changed[key] = v
		}
		changed[name] = value
		if value == nil {
			delete(changed, name)
		}
		return changed
	}
	header := map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
	claims := map[string]any{
		"iss": "warble", "aud": "warble-api", "sub": "42", "jti": "x", "username": "ada", "community": "",
		"iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
	good := k.forge(t, header, claims)
	if _, err := k.verifier.Verify(good); err != nil {
		t.Fatalf("the token that the cases below spoil: %v", err)
	}
	if _, err := k.verifier.Verify(k.forge(t, with(header, "jku", "https://evil.example/jwks"), claims)); err != nil {
		t.Errorf("jku is to be ignored, not followed: %v", err)
	}

	stranger, _, _ := ed25519.GenerateKey(nil)
	input, signature := good[:strings.LastIndexByte(good, '.')], good[strings.LastIndexByte(good, '.')+1:]
	hs := segment(t, with(header, "alg", "HS256")) + "." + segment(t, claims)
	mac := hmac.New(sha256.New, public(k.signer(t)))
	mac.Write([]byte(hs))
	none := segment(t, with(header, "alg", "none")) + "." + segment(t, claims) + "."
	embedded := with(with(header, "kid", thumbprint(stranger)), "jwk", map[string]any{
		"kty": "OKP", "crv": "Ed25519", "x": base64url.EncodeToString(stranger),
	})

	cases := map[string]string{
		"empty":                    "",
		"two segments":             input,
		"four segments":            good + ".x",
		"no signature":             input + ".",
		"signature of another":     input + "." + strings.Repeat("A", len(signature)),
		"padded base64":            good + "==",
		"standard base64":          input + "." + strings.NewReplacer("-", "+", "_", "/").Replace(signature) + "+",
		"loose trailing bits":      input + "." + signature[:len(signature)-1] + nextLetter(signature[len(signature)-1]),
		"line break":               input + ".\n" + signature,
		"too long":                 good + strings.Repeat("A", maxToken),
		"alg none":                 none,
		"HMAC with the public key": hs + "." + base64url.EncodeToString(mac.Sum(nil)),
		"typ JWT":                  k.forge(t, with(header, "typ", "JWT"), claims),
		"no typ":                   k.forge(t, with(header, "typ", nil), claims),
		"no kid":                   k.forge(t, with(header, "kid", nil), claims),
		"kid of a stranger":        k.forge(t, with(header, "kid", thumbprint(stranger)), claims),
		"kid not a string":         k.forge(t, with(header, "kid", 7), claims),
		"key inside the header":    k.forge(t, embedded, claims),
		"crit":                     k.forge(t, with(header, "crit", []string{"exp"}), claims),
		"other issuer":             k.forge(t, header, with(claims, "iss", "other")),
		"no issuer":                k.forge(t, header, with(claims, "iss", nil)),
		"other audience":           k.forge(t, header, with(claims, "aud", "other")),
		"no audience":              k.forge(t, header, with(claims, "aud", nil)),
		"no expiry":                k.forge(t, header, with(claims, "exp", nil)),
		"expired":                  k.forge(t, header, with(claims, "exp", start.Add(-leeway).Unix())),
		"no iat":                   k.forge(t, header, with(claims, "iat", nil)),
		"issued in the future":     k.forge(t, header, with(claims, "iat", start.Add(leeway+time.Second).Unix())),
		"sid of letters":           k.forge(t, header, with(claims, "sid", "x")),
		"no jti":                   k.forge(t, header, with(claims, "jti", nil)),
		"no username":              k.forge(t, header, with(claims, "username", nil)),
		"sub not an id":            k.forge(t, header, with(claims, "sub", "root")),
		"sub zero":                 k.forge(t, header, with(claims, "sub", "0")),
		"sub over 64 bits":         k.forge(t, header, with(claims, "sub", "9223372036854775808")),
	}
	for name, text := range cases {
		if claims, err := k.verifier.Verify(text); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%s: claims %+v, error %v", name, claims, err)
		}
	}
	if n := k.verifier.cache.Len(); n != 2 {
		t.Errorf("%d tokens cached, want the 2 good ones", n)
	}
}

// nextLetter changes the lowest bits of the last base64 letter of 64 bytes, which say nothing.
func nextLetter(letter byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, letter)+1])
}

func TestLeewayAndCache(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	text := k.issue(t)
	k.advance(-leeway) // a verifier whose clock is behind
	if _, err := k.verifier.Verify(text); err != nil {
		t.Errorf("30 s before iat: %v", err)
	}
	k.advance(leeway + time.Hour)
	if _, err := k.verifier.Verify(text); err != nil {
		t.Errorf("at exp, within the leeway: %v", err)
	}
	if n := k.verifier.cache.Len(); n != 0 {
		t.Errorf("%d tokens cached past their exp", n)
	}
	k.advance(leeway)
	_, err := k.verifier.Verify(text)
	if p := problem.From(err); p.Kind != problem.Unauthenticated || p.Detail != "The token has expired." {
		t.Errorf("30 s after exp: %v", err)
	}
}

func TestTheCacheIsLimited(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	for id := range int64(cacheSize + 10) {
		if _, err := k.verifier.Verify(k.issueFor(t, id+1)); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.verifier.cache.Len(); n != cacheSize {
		t.Errorf("%d tokens cached, want %d", n, cacheSize)
	}
}

func TestKeysAreRotatedByReplacingTheFile(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	first := k.issue(t)
	verifies := func(text string, want bool) {
		t.Helper()
		k.advance(checkEvery)
		if _, err := k.verifier.Verify(text); (err == nil) != want {
			t.Fatalf("verifies: %v, want %v", err, want)
		}
	}
	verifies(first, true)

	next := k.private + ".next"
	if err := NewKeyPair(next, k.public); err != nil {
		t.Fatal(err)
	}
	verifies(first, true)
	if err := os.Rename(next, k.private); err != nil {
		t.Fatal(err)
	}
	k.advance(checkEvery)
	second := k.issue(t)
	verifies(first, true)
	verifies(second, true)
	var set jwks
	if err := json.Unmarshal(k.verifier.KeySet(), &set); err != nil || len(set.Keys) != 2 {
		t.Errorf("key set %s, want two keys", k.verifier.KeySet())
	}

	if err := os.Remove(k.public); err != nil {
		t.Fatal(err)
	}
	verifies(first, true) // a file that is gone changes nothing
	if err := NewKeyPair(k.private, k.public); err != nil {
		t.Fatal(err)
	}
	verifies(first, false) // though it was cached
	verifies(second, true)
	if n := k.verifier.cache.Len(); n != 1 {
		t.Errorf("%d tokens cached, want only the second", n)
	}
}

func TestTheOldKeysStayInUseIfTheFileIsBroken(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	text := k.issue(t)
	good, err := os.ReadFile(k.public)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.verifier.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{
		"", "{}", `{"keys":[]}`, "not JSON",
		strings.Replace(string(good), `"kid":"`, `"kid":"x`, 1),
		strings.Replace(string(good), "Ed25519", "P-256", 1),
		strings.Replace(string(good), `"use"`, `"d":"AAAA","use"`, 1),
	} {
		if err := os.WriteFile(k.public, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		k.advance(checkEvery)
		if _, err := k.verifier.Verify(text); err != nil {
			t.Errorf("with %q in the file: %v", broken, err)
		}
		if err := k.verifier.Ready(t.Context()); err == nil {
			t.Errorf("ready with %q in the file", broken)
		}
	}
	if err := os.WriteFile(k.public, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.verifier.Ready(t.Context()); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func TestConfigurationMistakesAreReported(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, variables := range []map[string]string{
		{},
		{"TOKEN_PRIVATE_KEY_FILE": "/nowhere", "TOKEN_PUBLIC_KEYS_FILE": "/nowhere"},
		{"TOKEN_PRIVATE_KEY_FILE": broken, "TOKEN_PUBLIC_KEYS_FILE": broken},
	} {
		e := reader(variables)
		IssuerFromEnv(e)
		VerifierFromEnv(e)
		err := e.Err()
		if err == nil || !strings.Contains(err.Error(), "TOKEN_PRIVATE_KEY_FILE") || !strings.Contains(err.Error(), "TOKEN_PUBLIC_KEYS_FILE") {
			t.Errorf("%v: %v, want both named", variables, err)
		}
	}
}

func TestNewKeyPair(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	before := k.signer(t)
	if err := NewKeyPair(k.private, k.public); err != nil {
		t.Fatal(err)
	}
	if !before.Equal(k.signer(t)) {
		t.Error("the private key that was there is replaced")
	}
	info, err := os.Stat(k.private)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("private key is %v", info.Mode())
	}
	left, err := os.ReadDir(filepath.Dir(k.private))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 {
		t.Errorf("files left behind: %v", left)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	text, hash := NewRefresh()
	other, _ := NewRefresh()
	if text == other {
		t.Error("two refresh tokens are the same")
	}
	got, err := HashRefresh(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hash, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "x", text + "A", text[1:], "\n" + text[1:], text + "=", base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		if _, err := HashRefresh(bad); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := newKeys(f)
	good := k.issue(f)
	f.Add(good)
	f.Add("")
	f.Add("e30.e30.e30")
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, text string) {
		_, err := k.verifier.Verify(text)
		if err == nil && text != good {
			t.Errorf("accepted %q", text)
		}
		if err != nil && !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzKeySet checks that a key set is refused, or has only public Ed25519 keys under their thumbprints.
func FuzzKeySet(f *testing.F) {
	whole, err := newKeySet([]ed25519.PublicKey{make([]byte, ed25519.PublicKeySize)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole.jwks)
	for _, seed := range []string{"", "{}", `{"keys":[{}]}`, `{"keys":null}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}`, "[", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text)
		if err != nil {
			return
		}
		for id, key := range set.byID {
			if len(key) != ed25519.PublicKeySize || id != thumbprint(key) {
				t.Errorf("%q holds %q: %x", text, id, key)
			}
		}
		again, err := parseKeySet(set.jwks)
		if err != nil || len(again.byID) != len(set.byID) || len(set.byID) == 0 || strings.Contains(string(set.jwks), `"d"`) {
			t.Errorf("%q is published as %s: %v", text, set.jwks, err)
		}
	})
}

// FuzzRefresh checks that a token is hashed only if it has 256 bits, and that there is only one spelling of them.
func FuzzRefresh(f *testing.F) {
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	f.Add(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, text string) {
		_, err := HashRefresh(text)
		raw, decodeErr := base64.RawURLEncoding.Strict().DecodeString(text)
		canonical := decodeErr == nil && len(raw) == 32 && base64.RawURLEncoding.EncodeToString(raw) == text
		if canonical != (err == nil) || err != nil && !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("%q: %v", text, err)
		}
	})
}
