package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"warble/cmd/deploy/clustertest"
	"warble/shared/env"
	"warble/shared/knative"
	"warble/shared/knative/kubeconfig"
	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"deploy": deploy, "ko": ko})
}

// deploy runs main. If a script sets MIGRATIONS, deploy reads the migrations from that folder instead, because none of Warble's own
// migrations contracts the schema.
func deploy() {
	folder := os.Getenv("MIGRATIONS")
	if folder == "" {
		main()
		return
	}
	os.Exit(run(context.Background(), os.Args[1:], env.FromOS(), os.Stdout, os.Stderr, os.DirFS(folder)))
}

// ko takes the place of ko. It replaces each image by one with a digest, without building it.
func ko() {
	for _, arg := range os.Args {
		file, ok := strings.CutPrefix(arg, "--filename=")
		if !ok {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		image := os.Getenv("KO_DOCKER_REPO") + "/$1@sha256:" + strings.Repeat("0", 64)
		fmt.Printf("%s\n---\n", regexp.MustCompile(`ko://.*/(.*)`).ReplaceAll(text, []byte(image)))
	}
}

// The transcripts in testdata run the command itself, against a real PostgreSQL and the API server of clustertest, and at the
// root of the repository.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(edge.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", root)
			folder := filepath.Join(e.WorkDir, "cluster")
			e.Setenv("CLUSTER", folder)
			e.Setenv("KUBECONFIG", filepath.Join(folder, "kubeconfig"))
			if err := os.Mkdir(folder, 0o700); err != nil {
				return err
			}
			cluster, err := clustertest.Start(folder, edge.URL)
			if err != nil {
				return err
			}
			e.Defer(cluster.Close)
			e.Setenv("KO", "ko")
			e.Setenv("KO_DOCKER_REPO", "registry.test/warble")
			server, err := database(e)
			if err != nil {
				return err
			}
			e.Values[serverKey{}] = server
			e.Setenv("OWNER_URL", strings.Replace(server.URL("warble", "warble"), "warble@", "warble:owner-secret@", 1))
			e.Cd = root
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"edit":        edit,
			"copies":      copies,
			"no-password": noPassword,
			"age":         age,
			"hash":        hash,
			"somebody":    somebody,
		},
	})
}

type serverKey struct{}

// database starts a server with an empty database. Each script has its own server, because logins belong to the server and not to
// the database.
func database(e *testscript.Env) (*pgserver.Server, error) {
	folder, err := os.MkdirTemp("", "warble-deploy-")
	if err != nil {
		return nil, err
	}
	e.Defer(func() { _ = os.RemoveAll(folder) })
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	server, err := pgserver.Start(ctx, folder, pgserver.Options{Cache: filepath.Join(cache, "warble")}) // the cache of pgtest
	if err != nil {
		return nil, err
	}
	e.Defer(func() { _ = server.Stop() })
	// As with a managed database, the owner is not a superuser.
	for _, statement := range []string{`create role warble login createrole`, `create database warble owner warble`} {
		if err := pgtest.Exec(ctx, server.Superuser("postgres"), statement); err != nil {
			return nil, err
		}
	}
	return server, nil
}

// copies puts a copy of the manifests into the working folder: "copies knative".
func copies(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.CopyFS(ts.MkAbs(ts.Getenv("WORK")+"/"+args[0]), os.DirFS(filepath.Join(ts.Getenv("ROOT"), args[0]))))
}

// edit replaces a text, which must be in the file: "edit FILE OLD NEW".
func edit(ts *testscript.TestScript, _ bool, args []string) {
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%s: no %q in it", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(old, args[1], args[2])), 0o600))
}

// noPassword checks that no value of the cluster's secrets is in the last command's output, or in the URL of any request.
func noPassword(ts *testscript.TestScript, _ bool, _ []string) {
	public := ts.ReadFile("stdout") + ts.ReadFile("stderr") + ts.ReadFile(filepath.Join(ts.Getenv("CLUSTER"), "calls"))
	files, err := filepath.Glob(filepath.Join(ts.Getenv("CLUSTER"), "secrets_*"))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("the cluster has no secret")
	}
	for _, file := range files {
		var secret struct{ Data map[string][]byte }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &secret))
		for key, value := range secret.Data {
			text := strings.TrimSpace(string(value))
			if u, err := url.Parse(text); err == nil && u.User != nil {
				text, _ = u.User.Password()
			}
			if len(text) < 10 || strings.Contains(public, text) {
				ts.Fatalf("%s: %s is shown, or empty", file, key)
			}
		}
	}
}

// age makes an object older: "age OBJECT DURATION".
func age(ts *testscript.TestScript, _ bool, args []string) {
	by, err := time.ParseDuration(args[1])
	ts.Check(err)
	file := filepath.Join(ts.Getenv("CLUSTER"), args[0])
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &object))
	metadata := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	for _, of := range []map[string]any{metadata, annotations} {
		for name, value := range of {
			text, _ := value.(string)
			if then, err := time.Parse(time.RFC3339, text); err == nil {
				of[name] = then.Add(-by).Format(time.RFC3339)
			}
		}
	}
	text, err := json.Marshal(object)
	ts.Check(err)
	ts.Check(os.WriteFile(file, text, 0o600))
}

// somebody changes an object as another field manager: "somebody MANAGER APIVERSION RESOURCE/NAME PATCH".
func somebody(ts *testscript.TestScript, _ bool, args []string) {
	config, _, err := kubeconfig.Load(kubeconfig.Flags{File: ts.Getenv("KUBECONFIG")})
	ts.Check(err)
	objects, err := knative.NewObjects(config, "warble", args[0])
	ts.Check(err)
	resource, name, _ := strings.Cut(args[2], "/")
	ts.Check(objects.Patch(context.Background(), args[1]+"/"+resource, name, json.RawMessage(args[3])))
}

// hash prints the hash of each login's password in the database.
func hash(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := context.Background()
	conn, err := store.Connect(ctx, ts.Value(serverKey{}).(*pgserver.Server).Superuser("warble"), 0)
	ts.Check(err)
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	var text string
	ts.Check(conn.QueryRow(ctx, `
		select string_agg(rolname || ' ' || rolpassword, E'\n' order by rolname)
		from pg_authid
		where rolname like 'warble_%_login'`).Scan(&text))
	_, err = ts.Stdout().Write([]byte(text))
	ts.Check(err)
}
