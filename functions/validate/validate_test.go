package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/token"
)

// validate serves the function over HTTP. It returns the URL, and an issuer whose tokens the function accepts.
func validate(t testing.TB) (url string, issuer *token.Issuer) {
	t.Helper()
	issuer, tokens := apitest.Keys(t, t.TempDir())
	f := function.NewTest(io.Discard)
	server := httptest.NewServer(f.Handler(New(tokens, f.Telemetry.AuthMetrics()), tokens))
	t.Cleanup(server.Close)
	return server.URL, issuer
}

// send sends a request and decodes the JSON of its answer.
func send(t testing.TB, method, url, authorization string) (*http.Response, map[string]any) {
	t.Helper()
	var headers []string
	if authorization != "" {
		headers = []string{"Authorization", authorization}
	}
	response, text := apitest.Send(t, method, url, "", headers...)
	var body map[string]any
	if err := json.Unmarshal([]byte(text), &body); err != nil {
		t.Fatal(err)
	}
	return response, body
}

func TestClaims(t *testing.T) {
	t.Parallel()
	url, issuer := validate(t)
	bearer, expires, err := issuer.Issue(token.Subject{UserID: 9007199254740993, Session: 9007199254740995, Username: "ada", Community: "gophers"})
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		response, got := send(t, method, url+"/auth/validate", "Bearer "+bearer)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", method, response.Status, got)
		}
		if cache := response.Header.Get("Cache-Control"); cache != "no-store" {
			t.Errorf("%s: Cache-Control %q", method, cache)
		}
		if id, _ := got["jti"].(string); id == "" {
			t.Errorf("%s: no jti", method)
		}
		delete(got, "jti")
		want := map[string]any{
			"sub": "9007199254740993", "id": "9007199254740993", "username": "ada", "community": "gophers",
			"iat": float64(expires.Add(-time.Hour).Unix()), "exp": float64(expires.Unix()), "iss": "warble", "aud": "warble-api",
			"sid": "9007199254740995",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", method, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	url, issuer := validate(t)
	_, stranger := validate(t)
	bearer, _, err := issuer.Issue(token.Subject{UserID: 1, Username: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	forged, _, err := stranger.Issue(token.Subject{UserID: 1, Username: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	const without, invalid = `Bearer realm="warble"`, `Bearer realm="warble", error="invalid_token"`
	for name, authorization := range map[string]string{
		"none":                  "",
		"no scheme":             bearer,
		"basic":                 "Basic " + bearer,
		"empty":                 "Bearer ",
		"not a token":           "Bearer x",
		"changed":               "Bearer " + bearer[:len(bearer)-3] + "AAA",
		"signed by a stranger":  "Bearer " + forged,
		"with something behind": "Bearer " + bearer + " x",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			response, body := send(t, method, url+"/auth/validate", authorization)
			challenge := without
			if token := strings.TrimPrefix(authorization, "Bearer "); token != "" && token != authorization {
				challenge = invalid
			}
			if response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") != challenge ||
				response.Header.Get("Content-Type") != "application/problem+json" || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %s: %s %v %v", name, method, response.Status, response.Header, body)
			}
		}
	}
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	url, _ := validate(t)
	response, body := send(t, http.MethodGet, url+"/.well-known/jwks.json", "")
	keys, _ := body["keys"].([]any)
	if response.StatusCode != http.StatusOK || len(keys) != 1 {
		t.Fatalf("%s %v", response.Status, body)
	}
	key, _ := keys[0].(map[string]any)
	for member, want := range map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"} {
		if key[member] != want {
			t.Errorf("%s is %v, want %s", member, key[member], want)
		}
	}
	if _, leaked := key["d"]; leaked || key["kid"] == "" || key["x"] == "" {
		t.Errorf("key %v", key)
	}
	if cache := response.Header.Get("Cache-Control"); !strings.Contains(cache, "max-age") || response.Header.Get("ETag") == "" {
		t.Errorf("not cacheable: %v", response.Header)
	}
}

// TestLinksNoDatabaseDriver: by the architecture, a function that only verifies tokens has no access to the data.
func TestLinksNoDatabaseDriver(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(list)) {
		if strings.Contains(name, "pgx") || strings.Contains(name, "warble/shared/store") {
			t.Errorf("links %s", strings.TrimSpace(name))
		}
	}
}

func FuzzBearer(f *testing.F) {
	url, issuer := validate(f)
	good, _, err := issuer.Issue(token.Subject{UserID: 1, Username: "ada"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "x", "e30.e30.e30", good + "\x7f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bearer string) {
		if strings.ContainsFunc(bearer, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Skip("no client can send it in a header")
		}
		response, body := send(t, http.MethodGet, url+"/auth/validate", "Bearer "+bearer)
		if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: %s %v", bearer, response.Status, body)
		}
	})
}
