package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"warble/shared/env"
	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

// command runs migrate with settings as its environment.
func command(ctx context.Context, settings map[string]string, args ...string) (string, error) {
	var out bytes.Buffer
	e := env.New(func(name string) (string, bool) { value, ok := settings[name]; return value, ok })
	err := run(ctx, append([]string{"-wait", "2m"}, args...), e, &out)
	return out.String(), err
}

// empty starts a server with an empty database, and returns the database's URL.
func empty(t *testing.T) (server *pgserver.Server, url string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "warble-migrate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	server, err = pgserver.Start(context.Background(), folder, pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	url = server.Superuser("postgres")
	if err := pgtest.Exec(t.Context(), url, `create database warble`); err != nil {
		t.Fatal(err)
	}
	return server, server.Superuser("warble")
}

// A deployment runs these verbs in this order, and again at each release.
func TestTheVerbsOfADeployment(t *testing.T) {
	t.Parallel()
	server, url := empty(t)
	settings := map[string]string{
		"DATABASE_DIRECT_URL":    url,
		"DATABASE_URL":           "postgres://a.pooler/that-is-not-used",
		"DATABASE_PASSWORD_AUTH": "a'b\\c",
		"DATABASE_PASSWORD_API":  "api",
		"DATABASE_PASSWORD_MAIL": "mail",
		"DATABASE_PASSWORD_OPS":  "ops",
	}
	newest := strconv.Itoa(store.SchemaVersion)
	hashes := make(map[string]bool)
	for _, tt := range []struct{ args, want string }{
		{"version", "the database is at migration 0; this command knows the migrations up to " + newest + "\n"},
		{"", "login warble_auth_login is in the group warble_auth\nlogin warble_api_login is in the group warble_api\nlogin warble_mail_login is in the group warble_mail\nlogin warble_ops_login is in the group warble_ops\nmigrated from 0 to " + newest + "\n"},
		{"up", "login warble_auth_login is in the group warble_auth\nlogin warble_api_login is in the group warble_api\nlogin warble_mail_login is in the group warble_mail\nlogin warble_ops_login is in the group warble_ops\nalready at migration " + newest + "\n"},
		{"version", "the database is at migration " + newest + "; this command knows the migrations up to " + newest + "\n"},
		{"logins", "login warble_auth_login is in the group warble_auth\nlogin warble_api_login is in the group warble_api\nlogin warble_mail_login is in the group warble_mail\nlogin warble_ops_login is in the group warble_ops\n"},
		{"logins", "login warble_auth_login is in the group warble_auth\nlogin warble_api_login is in the group warble_api\nlogin warble_mail_login is in the group warble_mail\nlogin warble_ops_login is in the group warble_ops\n"},
		{"communities add gophers Gophers", "community gophers is in the database\n"},
		{"communities add gophers Gophers", "community gophers is in the database\n"},
		{"outbox replay", "0 dead letters are back in the outbox\n"},
		{"deletions replay 7 8", "deleted 0 of 2 accounts again\n"},
	} {
		got, err := command(t.Context(), settings, strings.Fields(tt.args)...)
		if err != nil || got != tt.want {
			t.Errorf("migrate %s: %q %v, want %q", tt.args, got, err, tt.want)
		}
		if strings.HasPrefix(tt.want, "login ") {
			hashes[hash(t, url, "warble_api_login")] = true
		}
	}
	if len(hashes) != 1 {
		t.Errorf("the password of warble_api_login was set %d times, want once: poolers hold copies of its hash", len(hashes))
	}
	settings["DATABASE_PASSWORD_API_2"] = "other"
	logins := "login warble_auth_login is in the group warble_auth\nlogin warble_api_login is in the group warble_api\nlogin warble_api_login_2 is in the group warble_api\nlogin warble_mail_login is in the group warble_mail\nlogin warble_ops_login is in the group warble_ops\n"
	if got, err := command(t.Context(), settings, "logins"); err != nil || got != logins {
		t.Errorf("migrate logins with a second one: %q %v, want %q", got, err, logins)
	}
	if err := pgtest.Exec(t.Context(), url, `insert into dead_letters (id, user_id, type, data, created_at, reason) values (1, 2, 't', '{}', now(), '')`); err != nil {
		t.Fatal(err)
	}
	if got, err := command(t.Context(), settings, "outbox", "replay"); err != nil || got != "1 dead letters are back in the outbox\n" {
		t.Errorf("migrate outbox replay: %q %v", got, err)
	}
	for _, login := range []string{"warble_auth_login", "warble_api_login", "warble_api_login_2", "warble_mail_login", "warble_ops_login"} {
		if err := pgtest.Exec(t.Context(), server.URL(login, "warble"), `select from schema_version`); err != nil {
			t.Errorf("%s: %v", login, err)
		}
	}
}

func hash(t *testing.T, url, login string) (text string) {
	t.Helper()
	conn, err := store.Connect(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	if err := conn.QueryRow(t.Context(), `select rolpassword from pg_authid where rolname = $1`, login).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// Every command in the pages is a verb that exists.
func TestThePagesNameOnlyVerbsThatExist(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/runbooks/*.md"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range regexp.MustCompile("(?m)(?:go run ./cmd/migrate|^migrate) ([^`#\n]*)").FindAllSubmatch(text, -1) {
				checked++
				none := env.New(func(string) (string, bool) { return "", false })
				if _, err := verb(strings.Fields(string(found[1])), none, io.Discard); err != nil {
					t.Errorf("%s: migrate%s: %v", filepath.Base(file), found[1], err)
				}
			}
		}
	}
	if checked < 4 {
		t.Errorf("%d commands: expected more", checked)
	}
}

func TestMistakesInTheCommandLineAreNamed(t *testing.T) {
	t.Parallel()
	_, url := empty(t)
	here := map[string]string{"DATABASE_URL": url}
	for _, tt := range []struct {
		settings map[string]string
		args     string
		want     string
	}{
		{nil, "up", "DATABASE_URL"},
		{map[string]string{"DATABASE_URL": "postgres://127.0.0.1:1/warble"}, "-wait 1s up", "127.0.0.1"},
		{here, "down", "expected up, logins"},
		{here, "up 3", "expected up, logins"},
		{here, "outbox", "outbox replay"},
		{here, "deletions replay", "deletions replay ID"},
		{here, "deletions replay ada", `"ada": expected the id of an account`},
		{here, "communities add gophers", "communities add SLUG NAME"},
		{here, "communities add Not_a_slug X", "Not_a_slug"},
		{here, "logins", "DATABASE_PASSWORD_API"},
	} {
		if out, err := command(t.Context(), tt.settings, strings.Fields(tt.args)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("migrate %s with %v: %q, %v, want %q in it", tt.args, tt.settings, out, err, tt.want)
		}
	}
}
