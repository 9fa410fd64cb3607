//go:build e2e

package e2e_test

import (
	"context"
	"encoding/hex"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"warble/shared/apitest"
	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
	"warble/shared/token"
)

// deletionLimit is three times the minute that is between two calls of FinishDeletions by relay.
const deletionLimit = 3 * time.Minute

// pgDump returns the whole content of the database as text.
func pgDump(t *testing.T, server *pgserver.Server) string {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), serverProgram(t, server, "pg_dump"), "--dbname", server.Superuser("warble")).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return string(text)
}

// TestADeletedAccountLeavesNothingInTheDatabaseOrTheLog makes an account over HTTP, writes with it and deletes it. Relay then finishes the
// deletion by itself. A subscriber gets the event of the deletion.
func TestADeletedAccountLeavesNothingInTheDatabaseOrTheLog(t *testing.T) {
	processes(t)
	server, _ := guarded(t)
	events := startSubscriber(t)
	office := apitest.OpenPostOffice(t) // without it, a local run prints mail
	run := runOn(t, server, "K_SINK="+events.url, "SMTP_URL="+office.URL)

	const email, tweet, undone, opinion = "countess@example.org", "a private confession", "a private mistake", "a private opinion"
	ada := (&user{t: t}).withURL(run.URL)
	s := decode[session](t, ada.do("POST", "/auth/register",
		object("name", "Augusta King", "username", "enchantress", "email", email, "password", password)), http.StatusCreated)
	ada.id, ada.token = s.Data.ID, s.Token
	_, _, mailed := office.Await(t, email, "verify").Link()
	ada.post(tweet, "Idempotency-Key", "1")
	want := func(status int, method, path, body string) {
		t.Helper()
		if a := ada.do(method, path, body, "Idempotency-Key", path); a.status != status {
			t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
		}
	}
	want(http.StatusOK, "DELETE", "/2/tweets/"+ada.post(undone), "")
	want(http.StatusCreated, "POST", "/feedback", `{"score": 2, "text": "`+opinion+`"}`)
	want(http.StatusUnauthorized, "POST", "/auth/login", object("email", email, "password", "not-"+password))
	renewed := decode[session](t, ada.do("POST", "/auth/refresh", object("refresh_token", s.RefreshToken)), http.StatusOK)

	// The database has only hashes of refresh tokens.
	stored := []string{"Augusta King", "enchantress", "countess", tweet, opinion}
	secret := []string{undone, password, mailed, s.Token, renewed.Token, s.RefreshToken, renewed.RefreshToken}
	for _, refresh := range []string{s.RefreshToken, renewed.RefreshToken} {
		hash, err := token.HashRefresh(refresh)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hex.EncodeToString(hash))
	}
	before := pgDump(t, server)
	for _, trace := range stored {
		if !strings.Contains(before, trace) {
			t.Errorf("%q is not in the database before the deletion: it proves nothing", trace)
		}
	}

	want(http.StatusAccepted, "DELETE", "/auth/account", object("password", password))
	if err := pgtest.Exec(t.Context(), server.Superuser("warble"), `update deletions set requested_at = now() - interval '23 hours'`); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Connect(t.Context(), server.Superuser("warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	eventually(t, "the end of the deletion", deletionLimit, func() (finished bool) {
		if err := conn.QueryRow(t.Context(), `select finished_at is not null from deletions where user_id = $1`, ada.id).Scan(&finished); err != nil {
			t.Fatal(err)
		}
		return finished
	})
	eventually(t, "the event of the deletion", time.Minute, func() bool { return events.has("dev.warble.user.deleted.v1", ada.id) })
	after := pgDump(t, server)
	if err := run.Stop(); err != nil { // so that the log is complete
		t.Error(err)
	}
	for where, text := range map[string]string{"the database": after, "the log": run.Log()} {
		if !strings.Contains(text, ada.id) {
			t.Errorf("%s lacks the user's id: it proves nothing", where)
		}
		for line := range strings.Lines(text) {
			for _, trace := range append(stored, secret...) {
				if strings.Contains(line, trace) {
					t.Errorf("%q is left in %s: %.300s", trace, where, line)
				}
			}
		}
	}
}
