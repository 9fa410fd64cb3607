package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/alexedwards/argon2id"
	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
	"warble/shared/token"
)

const (
	users = 50_000 // each with a token; far more than a Verifier remembers, so that it has forgotten a token when the token comes again
	few   = 100    // the users of loads in which tokens repeat
	email = "ada@example.org"
	pass  = "analytical-engine-1843"
	conns = 4 // connections to PostgreSQL of each side: a function's default
)

// rig has everything that the benchmarks need: a durable PostgreSQL, the binaries, keys, users and their tokens.
type rig struct {
	folder   string
	postgres *pgserver.Server
	services []*manifest.Service
	hash     string // of pass
}

func newRig(ctx context.Context) (r *rig, err error) {
	r = &rig{}
	if r.services, err = manifest.ReadAll("knative"); err != nil {
		return nil, err
	}
	if r.folder, err = os.MkdirTemp("", "warble-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if err := os.Chmod(r.folder, 0o711); err != nil { // if this user is root, PostgreSQL runs as another user
		return nil, err
	}
	var work sync.WaitGroup
	failures := make([]error, 2)
	work.Go(func() { failures[0] = r.build(ctx) })
	work.Go(func() { failures[1] = errors.Join(r.makeKeys(), r.startPostgres(ctx)) })
	work.Wait()
	return r, errors.Join(failures...)
}

// close ends PostgreSQL and removes the folder. Functions have ended before, because each is stopped by the code that starts it.
func (r *rig) close() error {
	var err error
	if r.postgres != nil {
		err = r.postgres.Stop()
	}
	return errors.Join(err, os.RemoveAll(r.folder))
}

func (r *rig) path(name string) string { return filepath.Join(r.folder, name) }

// build builds the functions like ko, with the flags of ko.yaml, and the bare equivalents in the same way.
func (r *rig) build(ctx context.Context) error {
	var ko struct {
		Flags   []string `yaml:"defaultFlags"`
		Ldflags []string `yaml:"defaultLdflags"`
	}
	text, err := os.ReadFile("ko.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &ko)
	}
	if err != nil {
		return fmt.Errorf("ko.yaml: %w", err)
	}
	arguments := slices.Concat([]string{"build", "-trimpath"}, ko.Flags,
		[]string{"-ldflags=" + strings.Join(ko.Ldflags, " "), "-o", r.path("bin") + "/", "./functions/...", "./e2e/bench/bare/..."})
	if output, err := exec.CommandContext(ctx, "go", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return nil
}

// userID returns the id of the nth user, from 1. It is an id as next_id makes it in the nth millisecond of 2026.
func userID(n int) int64 { return int64(n) << 22 }

func (r *rig) makeKeys() error {
	if err := token.NewKeyPair(r.path("private.pem"), r.path("jwks.json")); err != nil {
		return err
	}
	settings := map[string]string{"TOKEN_PRIVATE_KEY_FILE": r.path("private.pem"), "TOKEN_TTL": "24h"}
	e := env.New(func(name string) (string, bool) { value, ok := settings[name]; return value, ok })
	issuer := token.IssuerFromEnv(e)
	if err := e.Err(); err != nil {
		return err
	}
	tokens := make([]string, users)
	var work sync.WaitGroup
	for start := range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := start; i < users; i += runtime.GOMAXPROCS(0) {
				tokens[i], _, _ = issuer.Issue(token.Subject{UserID: userID(i + 1), Username: fmt.Sprintf("u%d", i+1), Community: "gophers"})
			}
		})
	}
	work.Wait()
	var err error
	parameters := argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32} // shared/password's
	if r.hash, err = argon2id.CreateHash(pass, &parameters); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(r.path("tokens"), []byte(strings.Join(tokens, "\n")), 0o600),
		os.WriteFile(r.path("edge.key"), []byte(strings.Repeat("bench", 8)), 0o600),
		r.writeRoutes(routes{Functions: []route{}}),
	)
}

// routes is the edge's routes file.
type routes struct {
	Functions   []route            `json:"functions"`
	Experiments []experiment.Rules `json:"experiments,omitempty"`
}

type route struct {
	Name   string    `json:"name"`
	URL    string    `json:"url"`
	Routes []string  `json:"routes"`
	Guest  *struct{} `json:"guest,omitempty"` // with the defaults of a guest
}

// routesTo returns the routes that the manifests name, to the functions that run.
func (r *rig) routesTo(running map[string]*server) routes {
	to := routes{Functions: []route{}}
	for _, s := range r.services {
		if one := running[s.Name()]; one != nil {
			to.Functions = append(to.Functions, route{Name: s.Name(), URL: "http://" + one.address, Routes: s.Routes()})
		}
	}
	return to
}

// writeRoutes writes the routes that an edge reads unless it is started with another file.
func (r *rig) writeRoutes(to routes) error { return to.write(r.path("routes.json")) }

func (to routes) write(file string) error {
	text, err := json.Marshal(to)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

func (r *rig) startPostgres(ctx context.Context) (err error) {
	if r.postgres, err = pgserver.Start(ctx, r.path("postgres"), pgserver.Options{Durable: true}); err != nil {
		return err
	}
	if err := r.exec(ctx, "postgres", `create database warble`); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, r.postgres.Superuser("warble"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, _, err := migrations.Apply(ctx, conn); err != nil {
		return err
	}
	for _, role := range []string{"auth", "api", "mail", "ops"} {
		if err := store.CreateLogin(ctx, conn, store.DatabaseLogin{Name: "warble_" + role + "_login", Group: "warble_" + role}); err != nil {
			return err
		}
	}
	if err := store.AddCommunity(ctx, conn, "gophers", "Gophers"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `insert into users (id, username, name, community) select n << 22, 'u' || n, 'User ' || n, 'gophers' from generate_series(1::bigint, $1) n`, users); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `insert into credentials (user_id, email, password_hash) values ($1, $2, $3)`, userID(1), email, r.hash); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `vacuum analyze`)
	return err
}

// tweetID is the id of the one tweet that is never deleted.
const tweetID = "4194304"

// empty deletes all tweets except one, so that each round begins with the same tables and nothing to checkpoint.
func (r *rig) empty(ctx context.Context) error {
	return r.exec(ctx, "warble",
		`truncate tweets, tweet_counts, likes, outbox, idempotency_keys`,
		`insert into tweets (id, author_id, community, text) values (`+tweetID+`, `+tweetID+`, 'gophers', 'hello')`,
		`checkpoint`)
}

func (r *rig) exec(ctx context.Context, database string, statements ...string) error {
	conn, err := pgx.Connect(ctx, r.postgres.Superuser(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// databaseURL returns the URL for the login of a role: auth, api, mail or ops.
func (r *rig) databaseURL(role string) string {
	return r.postgres.URL("warble_"+role+"_login", "warble")
}

// environment returns a function's environment from its manifest, with the rig's secrets and files. The edge's rate limits are too high to be
// reached, and it has one replica. A name without a manifest is a bare equivalent.
func (r *rig) environment(name string) []string {
	files := map[string]string{
		"TOKEN_PRIVATE_KEY_FILE": r.path("private.pem"),
		"TOKEN_PUBLIC_KEYS_FILE": r.path("jwks.json"),
		"EDGE_KEY_FILE":          r.path("edge.key"),
		"ROUTES_FILE":            r.path("routes.json"),
	}
	for _, s := range r.services {
		if s.Name() != name {
			continue
		}
		settings := []string{"K_SERVICE=" + name, "K_CONFIGURATION=" + name, "K_REVISION=" + name + "-00001"}
		for _, v := range s.Container().Env {
			switch file, known := files[v.Name]; {
			case known:
				settings = append(settings, v.Name+"="+file)
			case v.Name == "DATABASE_URL":
				settings = append(settings, "DATABASE_URL="+r.databaseURL(strings.TrimPrefix(v.ValueFrom.SecretKeyRef.Name, "warble-database-")))
			default:
				settings = append(settings, v.Name+"="+v.Value)
			}
		}
		const unlimited = "1000000000/15m"
		return append(settings, "EDGE_REPLICAS=1", "RATE_LIMIT_READ="+unlimited, "RATE_LIMIT_WRITE="+unlimited, "RATE_LIMIT_AUTH="+unlimited)
	}
	return []string{
		"TOKEN_PUBLIC_KEYS_FILE=" + files["TOKEN_PUBLIC_KEYS_FILE"],
		"DATABASE_URL=" + r.databaseURL("api"),
		fmt.Sprintf("DATABASE_MAX_CONNS=%d", conns),
		fmt.Sprintf("AUTHORS=%d", few),
	}
}
