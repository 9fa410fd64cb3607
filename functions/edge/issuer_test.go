package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"warble/shared/experiment"
)

// testIssuer is an issuer that is not Warble. It serves its configuration, and a key set that a test can change.
type testIssuer struct {
	url   string
	asked atomic.Int64 // requests for its keys
	down  atomic.Bool

	mu   sync.Mutex
	keys jwkset.JWKSMarshal
}

func newTestIssuer(t testing.TB) *testIssuer {
	t.Helper()
	a := new(testIssuer)
	mux := http.NewServeMux()
	mux.HandleFunc("/team/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, a.url, a.url+"/keys")
	})
	mux.HandleFunc("/team/keys", func(w http.ResponseWriter, _ *http.Request) {
		a.asked.Add(1)
		if a.down.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if err := json.NewEncoder(w).Encode(a.keys); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	a.url = server.URL + "/team"
	return a
}

// publish replaces the key set.
func (a *testIssuer) publish(t testing.TB, keys map[string]crypto.PublicKey, algorithms map[string]jwkset.ALG) {
	t.Helper()
	var set jwkset.JWKSMarshal
	for id, key := range keys {
		one, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: id, ALG: algorithms[id], USE: jwkset.UseSig}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, one.Marshal())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = set
}

// claims returns the claims of a valid token, with changes in pairs; nil removes a claim.
func (a *testIssuer) claims(changes ...any) jwt.MapClaims {
	c := jwt.MapClaims{"iss": a.url, "aud": []string{"other", "shop"}, "exp": time.Now().Add(time.Hour).Unix(), "sub": "auth0|ada", "team": "gophers"}
	for i := 0; i < len(changes); i += 2 {
		if c[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
			delete(c, changes[i].(string))
		}
	}
	return c
}

func signedBy(t testing.TB, method jwt.SigningMethod, kid string, key any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// issuerExperiment returns a shop and an experiment of another issuer's users on it.
func issuerExperiment(t testing.TB, a *testIssuer) (functionEntry, experiment.Rules) {
	t.Helper()
	service, rules := visitorExperiment(t)
	rules.Identity = experiment.Identity{Kind: experiment.ByIssuer, Issuer: &experiment.Issuer{URL: a.url, Audience: "shop", CommunityClaim: "team"}}
	return service, rules
}

// assignmentOf returns the assignment that the shop receives for a token.
func assignmentOf(t testing.TB, edge *rig, token string) string {
	t.Helper()
	a := send(t, http.MethodGet, edge.url+"/shop", "", "Authorization", "Bearer "+token)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", a.Status, a.body)
	}
	if cookieFrom(a) != "" {
		t.Errorf("an answer to a user sets %s", cookieFrom(a))
	}
	return a.Header.Get("X-Assignment")
}

// TestOnlyTokensOfTheIssuerForTheAudienceAreAccepted also checks the signature: a key of the issuer's set, with that key's own
// algorithm.
func TestOnlyTokensOfTheIssuerForTheAudienceAreAccepted(t *testing.T) {
	t.Parallel()
	a := newTestIssuer(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.publish(t, map[string]crypto.PublicKey{"rsa": rsaKey.Public(), "ec": ecKey.Public(), "ed": edPublic}, map[string]jwkset.ALG{"rsa": jwkset.AlgRS256, "ed": jwkset.AlgEdDSA})
	der, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	a.mu.Lock()
	a.keys.Keys = append(a.keys.Keys, jwkset.JWKMarshal{KTY: jwkset.KtyOct, KID: "oct", K: "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}) // a public key used as a secret
	a.mu.Unlock()
	edge := start(t, config{})
	service, rules := issuerExperiment(t, a)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	ed := func(changes ...any) string {
		return signedBy(t, jwt.SigningMethodEdDSA, "ed", edKey, a.claims(changes...))
	}
	for what, c := range map[string]struct {
		token string
		unit  string // empty if no caller is found
	}{
		"EdDSA":                           {ed(), "auth0|ada"},
		"RS256":                           {signedBy(t, jwt.SigningMethodRS256, "rsa", rsaKey, a.claims("sub", "grace")), "grace"},
		"ES256, of a key for any":         {signedBy(t, jwt.SigningMethodES256, "ec", ecKey, a.claims("sub", "lin")), "lin"},
		"an audience alone":               {ed("aud", "shop"), "auth0|ada"},
		"another audience":                {ed("aud", "other"), ""},
		"no audience":                     {ed("aud", nil), ""},
		"another issuer":                  {ed("iss", a.url+"/"), ""},
		"no issuer":                       {ed("iss", nil), ""},
		"expired":                         {ed("exp", time.Now().Add(-time.Minute).Unix()), ""},
		"no expiry":                       {ed("exp", nil), ""},
		"not yet":                         {ed("nbf", time.Now().Add(time.Hour).Unix()), ""},
		"no user":                         {ed("sub", nil), ""},
		"a user with a semicolon":         {ed("sub", "a;exposes"), ""},
		"a user that is a list":           {ed("sub", []string{"ada"}), ""},
		"a number":                        {ed("sub", 1234567890123456789), "1234567890123456789"},
		"alg none":                        {signedBy(t, jwt.SigningMethodNone, "ed", jwt.UnsafeAllowNoneSignatureType, a.claims()), ""},
		"HS256 with the public key":       {signedBy(t, jwt.SigningMethodHS256, "rsa", publicPEM, a.claims()), ""},
		"HS256 with the public key's DER": {signedBy(t, jwt.SigningMethodHS256, "rsa", der, a.claims()), ""},
		"HS256 with the Ed25519 key":      {signedBy(t, jwt.SigningMethodHS256, "ed", []byte(edPublic), a.claims()), ""},
		"HS256 with a key of the set":     {signedBy(t, jwt.SigningMethodHS256, "oct", []byte("secret-secret-secret-secret-secret"), a.claims()), ""},
		"PS256 with a key for RS256":      {signedBy(t, jwt.SigningMethodPS256, "rsa", rsaKey, a.claims()), ""},
		"a foreign kid":                   {signedBy(t, jwt.SigningMethodEdDSA, "foreign", foreign, a.claims()), ""},
		"a foreign key under a known kid": {signedBy(t, jwt.SigningMethodEdDSA, "ed", foreign, a.claims()), ""},
		"no kid":                          {signedBy(t, jwt.SigningMethodEdDSA, "", edKey, a.claims()), ""},
		"Warble's own":                    {strings.TrimPrefix(edge.bearer(t, 7), "Bearer "), ""},
		"no token at all":                 {"x", ""},
	} {
		want := ""
		if c.unit != "" {
			arm, _ := rules.PlaceForeign(c.unit, "")
			want = fmt.Sprintf("checkout=%s;user=%s;generation=3;exposes", arm, c.unit)
		}
		for range 2 { // the second time perhaps from memory
			if got := assignmentOf(t, edge, c.token); got != want {
				t.Errorf("%s: the shop is told %q, want %q", what, got, want)
			}
		}
	}
	if n := a.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times for its keys, within a moment", n)
	}
	// A claim says whether a user is in the audience.
	rules.Audience = []string{"gophers"}
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	if in, out := assignmentOf(t, edge, ed()), assignmentOf(t, edge, ed("team", "rustaceans")); in == "" || out != "" {
		t.Errorf("for gophers: a gopher is told %q, another %q", in, out)
	}
}

// TestAnIssuersKeysRotateWithoutARestart also checks that the old keys stay if the issuer does not answer.
func TestAnIssuersKeysRotateWithoutARestart(t *testing.T) {
	t.Parallel()
	a := newTestIssuer(t)
	keys := make([]ed25519.PrivateKey, 3)
	for i := range keys {
		var err error
		if _, keys[i], err = ed25519.GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(which ...int) {
		set := make(map[string]crypto.PublicKey)
		for _, i := range which {
			set[fmt.Sprint(i)] = keys[i].Public()
		}
		a.publish(t, set, nil)
	}
	token := func(i int) string {
		return signedBy(t, jwt.SigningMethodEdDSA, fmt.Sprint(i), keys[i], a.claims())
	}
	publish(0)
	a.down.Store(true)
	edge := start(t, config{})
	service, rules := issuerExperiment(t, a)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	one := edge.routes.issuers.all[a.url]
	one.pause = 0
	if got := assignmentOf(t, edge, token(0)); got != "" {
		t.Errorf("while nobody knows the keys: %q", got)
	}
	a.down.Store(false)
	if assignmentOf(t, edge, token(0)) == "" {
		t.Error("the issuer is back, and its key is not known")
	}
	publish(0, 1)
	if assignmentOf(t, edge, token(1)) == "" || assignmentOf(t, edge, token(0)) == "" {
		t.Error("a second key, or the first one beside it, is not known")
	}
	// With a pause, tokens with unknown keys do not cause requests to the issuer.
	one.pause = time.Hour
	before := a.asked.Load()
	for range 20 {
		if got := assignmentOf(t, edge, token(2)); got != "" {
			t.Errorf("a key that is not published: %q", got)
		}
	}
	if n := a.asked.Load() - before; n != 0 {
		t.Errorf("20 tokens of an unknown key: the issuer was asked %d times", n)
	}
	// A withdrawn key becomes unknown at the next regular reading.
	publish(1)
	one.reading.Lock()
	one.lastTry = time.Now().Add(-2 * keysInterval)
	one.reading.Unlock()
	if err := edge.routes.issuers.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if withdrawn, kept := assignmentOf(t, edge, token(0)), assignmentOf(t, edge, token(1)); withdrawn != "" || kept == "" {
		t.Errorf("a withdrawn key: %q, the other: %q", withdrawn, kept)
	}
	a.down.Store(true)
	one.reading.Lock()
	one.lastTry = time.Now().Add(-2 * keysInterval)
	one.reading.Unlock()
	if err := edge.routes.issuers.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if assignmentOf(t, edge, token(1)) == "" || !strings.Contains(edge.log.String(), "the old keys stay in use") {
		t.Errorf("an issuer that is away has taken its keys along, or nobody says so:\n%s", edge.log)
	}
	// When the experiment ends, the edge forgets its issuer.
	edge.writeExperiments(t, nil, service)
	if n := len(edge.routes.issuers.all); n != 0 {
		t.Errorf("%d issuers of no experiment", n)
	}
}
