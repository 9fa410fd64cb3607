// Package apitest is for tests of functions. It serves a function over real HTTP with its own database, and has users who call it.
package apitest

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"warble/shared/env"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// API is a function that is being served.
type API struct {
	URL       string
	DB        *store.DB
	Telemetry *telemetry.Telemetry

	t        testing.TB
	database pgtest.Database
	issuer   *token.Issuer
	keys     string // the folder of the token keys
	users    atomic.Int64
}

// New serves a function's routes until the test ends, in the same way as the function's main. Settings are environment variables such as
// "WARBLE_ARM=control". An answer of 500 fails the test. The test's package needs pgtest.Main.
func New(t testing.TB, routes func(*store.DB, *token.Verifier, *telemetry.Telemetry) function.Routes, settings ...string) *API {
	t.Helper()
	f := function.NewTest(t.Output(), settings...)
	a := &API{Telemetry: f.Telemetry, t: t, database: pgtest.New(t), keys: t.TempDir()}
	var tokens *token.Verifier
	a.issuer, tokens = Keys(t, a.keys)
	if err := f.Env.Err(); err != nil {
		t.Fatal(err)
	}
	a.DB = a.database.Open(t, pgtest.API)
	server := httptest.NewServer(f.Handler(routes(a.DB, tokens, f.Telemetry), a.DB, tokens))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

// Keys makes a key pair in folder, private.pem and jwks.json, and returns an issuer and a verifier that use it.
func Keys(t testing.TB, folder string) (*token.Issuer, *token.Verifier) {
	t.Helper()
	files := map[string]string{
		"TOKEN_PRIVATE_KEY_FILE": filepath.Join(folder, "private.pem"),
		"TOKEN_PUBLIC_KEYS_FILE": filepath.Join(folder, "jwks.json"),
	}
	if err := token.NewKeyPair(files["TOKEN_PRIVATE_KEY_FILE"], files["TOKEN_PUBLIC_KEYS_FILE"]); err != nil {
		t.Fatal(err)
	}
	e := env.New(func(name string) (string, bool) { value, ok := files[name]; return value, ok })
	issuer, tokens := token.IssuerFromEnv(e), token.VerifierFromEnv(e)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	return issuer, tokens
}

// Another opens the API's database once more, like another process.
func (a *API) Another() *store.DB {
	a.t.Helper()
	return a.database.Open(a.t, pgtest.API)
}

// Settle waits until lists show all earlier writes to everybody: see store.DB.Horizon.
func (a *API) Settle() {
	a.t.Helper()
	last := a.Column(`select last::text from last_id()`)[0]
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		horizon, err := a.DB.Horizon(a.t.Context())
		if err != nil || time.Now().After(deadline) {
			a.t.Fatalf("the horizon is %d, want %s: %v", horizon, last, err)
		}
		if reached, _ := strconv.ParseInt(last, 10, 64); horizon >= reached {
			return
		}
	}
}

func (a *API) file(name string) string { return filepath.Join(a.keys, name) }

// SQL runs a statement as the database's owner.
func (a *API) SQL(statement string, args ...any) {
	a.t.Helper()
	if err := pgtest.Exec(a.t.Context(), a.database.URL(pgtest.Owner), statement, args...); err != nil {
		a.t.Fatal(err)
	}
}

// Hold runs a statement as the owner. Its locks stay until the test ends.
func (a *API) Hold(statement string, args ...any) {
	a.t.Helper()
	a.database.Hold(a.t, statement, args...)
}

// Column runs a query as the database's owner, and returns the first column of all rows. The column must have the type text.
func (a *API) Column(query string, args ...any) []string {
	a.t.Helper()
	rows, err := pgtest.Column(a.t.Context(), a.database.URL(pgtest.Owner), query, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return rows
}

// Metrics returns the lines that Prometheus would scrape.
func (a *API) Metrics() []string {
	w := httptest.NewRecorder()
	a.Telemetry.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return strings.Split(w.Body.String(), "\n")
}
