package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"deploy": main})
}

// The transcripts in testdata run the command itself, against a real PostgreSQL and a stand-in for the cluster, and at the
// root of the repository.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	goEnv, err := exec.CommandContext(t.Context(), "go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	var environment map[string]string
	if err := json.Unmarshal(goEnv, &environment); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // without the race detector, for it starts some hundred times
	for _, name := range []string{"kubectl", "ko"} {
		if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), "./testdata/standin").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
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
			for name, value := range environment {
				e.Setenv(name, value)
			}
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("ROOT", root)
			e.Setenv("CLUSTER", filepath.Join(e.WorkDir, "cluster"))
			e.Setenv("EDGE_URL", edge.URL)
			e.Setenv("KO", "ko")
			e.Setenv("KO_DOCKER_REPO", "registry.test/warble")
			server, err := database(e)
			if err != nil {
				return err
			}
			e.Values[serverKey{}] = server
			e.Setenv("OWNER_URL", strings.Replace(server.URL("warble", "warble"), "warble@", "warble:owner-secret@", 1))
			e.Cd = root
			return os.Mkdir(filepath.Join(e.WorkDir, "cluster"), 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"edit":        edit,
			"copies":      copies,
			"no-password": noPassword,
			"age":         age,
			"hash":        hash,
		},
	})
}

type serverKey struct{}

// database starts a server with an empty database, for one script: logins are the server's and not the database's.
func database(e *testscript.Env) (*pgserver.Server, error) {
	folder, err := os.MkdirTemp("", "warble-deploy-")
	if err != nil {
		return nil, err
	}
	e.Defer(func() { _ = os.RemoveAll(folder) })
	ctx := context.Background()
	server, err := pgserver.Start(ctx, folder, pgserver.Options{})
	if err != nil {
		return nil, err
	}
	e.Defer(func() { _ = server.Stop() })
	// The owner that a managed database gives its customer is no superuser.
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

// edit replaces a text that has to be there: "edit FILE OLD NEW".
func edit(ts *testscript.TestScript, _ bool, args []string) {
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("%s: no %q in it", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(old, args[1], args[2])), 0o600))
}

// noPassword checks that the last command's output, and every command line that kubectl was given, hold none of what the
// cluster's secrets hold.
func noPassword(ts *testscript.TestScript, _ bool, _ []string) {
	public := ts.ReadFile("stdout") + ts.ReadFile("stderr") + ts.ReadFile(filepath.Join(ts.Getenv("CLUSTER"), "calls"))
	files, err := filepath.Glob(filepath.Join(ts.Getenv("CLUSTER"), "secret_*"))
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

// hash prints what the database keeps of each login's password.
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
