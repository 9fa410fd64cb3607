// Package apitest is for tests of functions: one function behind real HTTP, on a database of its own, and users who call
// it.
package apitest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"warble/shared/env"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// API is a function that serves.
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

// New serves, until the test ends, the routes that a function makes, as its main does, with settings such as
// "ARM=control". An answer of 500 fails the test. The test's package needs pgtest.Main.
func New(t testing.TB, routes func(*store.DB, *token.Verifier, *telemetry.Telemetry) function.Routes, settings ...string) *API {
	t.Helper()
	f := function.NewTest(t.Output(), settings...)
	a := &API{Telemetry: f.Telemetry, t: t, database: pgtest.New(t), keys: t.TempDir()}
	if err := token.NewKeyPair(a.file("private.pem"), a.file("jwks.json")); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"TOKEN_PRIVATE_KEY_FILE": a.file("private.pem"), "TOKEN_PUBLIC_KEYS_FILE": a.file("jwks.json")}
	e := env.New(func(name string) (string, bool) { value, ok := files[name]; return value, ok })
	a.issuer = token.IssuerFromEnv(e)
	tokens := token.VerifierFromEnv(e)
	if err := errors.Join(e.Err(), f.Env.Err()); err != nil {
		t.Fatal(err)
	}
	a.DB = a.database.Open(t, pgtest.API)
	server := httptest.NewServer(f.Handler(routes(a.DB, tokens, f.Telemetry), a.DB, tokens))
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

func (a *API) file(name string) string { return filepath.Join(a.keys, name) }

// SQL runs a statement as the database's owner.
func (a *API) SQL(statement string, args ...any) {
	a.t.Helper()
	if err := pgtest.Exec(a.t.Context(), a.database.URL(pgtest.Owner), statement, args...); err != nil {
		a.t.Fatal(err)
	}
}

// Hold runs a statement as the owner, whose locks stay until the test ends.
func (a *API) Hold(statement string, args ...any) {
	a.t.Helper()
	a.database.Hold(a.t, statement, args...)
}

// Column returns the first column of all rows of a query, as the database's owner sees them, which is of type text.
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
