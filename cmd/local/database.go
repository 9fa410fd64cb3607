package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"warble/shared/manifest"
	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
)

// communities are created in every local run.
var communities = [][2]string{{"gophers", "Gophers"}, {"rustaceans", "Rustaceans"}, {"pythonistas", "Pythonistas"}, {"sres", "SREs"}}

// database is the database of DATABASE_URL, or of a private server if DATABASE_URL is not set.
type database struct {
	server  *pgserver.Server // nil with DATABASE_URL
	secrets map[manifest.KeyRef]string
}

func openDatabase(ctx context.Context, s state, log io.Writer) (*database, error) {
	if url := os.Getenv("DATABASE_URL"); url != "" {
		owner := cmp.Or(os.Getenv("DATABASE_DIRECT_URL"), url) // url may be that of a pooler
		return prepare(ctx, &database{}, owner, func(login store.DatabaseLogin) (string, error) { return withLogin(url, login) })
	}
	server, err := pgserver.Start(ctx, s.path("postgres"), pgserver.Options{Durable: true, Log: log, Set: []string{"log_min_messages=fatal"}})
	if err != nil {
		return nil, err
	}
	d := &database{server: server}
	if err := createDatabase(ctx, server); err != nil {
		d.stop()
		return nil, err
	}
	if _, err := prepare(ctx, d, server.Superuser("warble"), func(login store.DatabaseLogin) (string, error) {
		return server.URL(login.Name, "warble"), nil
	}); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func (d *database) stop() {
	if d.server != nil {
		_ = d.server.Stop() // it ends with this process anyway
	}
}

func createDatabase(ctx context.Context, server *pgserver.Server) error {
	conn, err := pgx.Connect(ctx, server.Superuser("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	var exists bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = 'warble')`).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `create database warble`)
	return err
}

// prepare prepares the database as a deployment does: it applies migrations, and creates a login for each role and the communities.
func prepare(ctx context.Context, d *database, owner string, urlOf func(store.DatabaseLogin) (string, error)) (*database, error) {
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, _, err := migrations.Apply(ctx, conn); err != nil {
		return nil, err
	}
	d.secrets = make(map[manifest.KeyRef]string)
	for _, role := range []string{"auth", "api", "mail", "ops"} {
		login := store.DatabaseLogin{Name: "warble_" + role + "_login", Group: "warble_" + role, Password: rand.Text()}
		if err := store.CreateLogin(ctx, conn, login); err != nil {
			return nil, err
		}
		if d.secrets[manifest.KeyRef{Name: "warble-database-" + role, Key: "url"}], err = urlOf(login); err != nil {
			return nil, err
		}
	}
	for _, c := range communities {
		if err := store.AddCommunity(ctx, conn, c[0], c[1]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// withLogin returns the owner's URL with a login's name and password.
func withLogin(owner string, login store.DatabaseLogin) (string, error) {
	u, err := url.Parse(owner)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return "", fmt.Errorf("DATABASE_URL: expected a URL such as postgres://user:password@host:5432/warble")
	}
	u.User = url.UserPassword(login.Name, login.Password)
	return u.String(), nil
}
