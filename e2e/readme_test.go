//go:build e2e

package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The commands of docs/api.md and of `make run` work. The test changes only the address and the user's name,
// which must be new.

func TestDocumentedCommands(t *testing.T) {
	processes(t)
	t.Parallel()
	paste(t, block(t, "sh", "curl"))
}

// TestMakeTry runs the first command that `make run` tells a newcomer to run.
func TestMakeTry(t *testing.T) {
	run := processes(t)
	t.Parallel()
	if !strings.Contains(run.Log(), "make try") {
		t.Errorf("make run does not speak of make try:\n%s", run.Log())
	}
	try := exec.CommandContext(t.Context(), "../tools/try.sh")
	try.Env = append(os.Environ(), "WARBLE_URL="+plainURL(t))
	try.Stderr = t.Output()
	said, err := try.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	shown := strings.TrimSpace(string(said))
	for _, want := range []string{`"username":"try_`, "\n$ curl ", `"token":"..."`} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	for line := range strings.Lines(shown) {
		if strings.HasPrefix(line, "$ curl ") || strings.HasPrefix(line, "    ") { // the address is the test's own
			line = strings.Replace(line, plainURL(t), "http://127.0.0.1:8080", 1)
		}
		if line = strings.TrimSuffix(line, "\n"); len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	timeline := strings.ReplaceAll(shown[strings.LastIndex(shown, "\n$ curl "):], "\n", "") // answers are folded
	if !strings.Contains(timeline, `"text":"hello, warble"`) {
		t.Errorf("the timeline is %s", timeline)
	}
}

func TestClientGoInDocs(t *testing.T) {
	t.Parallel()
	ada := register(t, "")
	program := `package main

import (
	"context"
	"net/http"
	"os"

	twitter "github.com/g8rswimmer/go-twitter/v2"
)

type bearer string

func (b bearer) Add(r *http.Request) { r.Header.Set("Authorization", "Bearer "+string(b)) }

func main() {
	ctx, token := context.Background(), os.Getenv("TOKEN")
	` + forThisWarble(t, block(t, "go", "twitter.Client")) + `
}
`
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", file)
	cmd.Env = append(os.Environ(), "TOKEN="+ada.token)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, program)
	}
	saidHello(t, ada)
}

func TestClientNodeInDocs(t *testing.T) {
	t.Parallel()
	ada := register(t, "")
	node(t, `
		import http from "node:http"
		import { TwitterApi } from "twitter-api-v2"
		const token = "`+ada.token+`"
		`+forThisWarble(t, block(t, "js", "TwitterApi")), "--input-type=module", "-")
	saidHello(t, ada)
}

func saidHello(t *testing.T, u *user) {
	t.Helper()
	var texts []string
	for _, tweet := range u.get(u.path("/tweets")).Data {
		texts = append(texts, tweet.Text)
	}
	if diff := cmp.Diff([]string{"hello, warble"}, texts); diff != "" {
		t.Error(diff)
	}
}

// paste runs commands in a shell. Each answer that they print must be a success, and the last one must have
// the posted tweet.
func paste(t *testing.T, commands string) {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "bash", "-u")
	shell.Stdin = strings.NewReader(forThisWarble(t, commands))
	shell.Stderr = t.Output()
	shown, err := shell.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, commands, shown)
	}
	last := ""
	for decoder := json.NewDecoder(strings.NewReader(string(shown))); ; {
		var answer struct{ Data json.RawMessage }
		if err := decoder.Decode(&answer); errors.Is(err, io.EOF) {
			break
		} else if err != nil || answer.Data == nil {
			t.Fatalf("%v\n%s\n%s", err, commands, shown)
		}
		last = string(answer.Data)
	}
	if !strings.Contains(last, `"text":"hello, warble"`) {
		t.Errorf("the tweet is not in the last answer:\n%s\n%s", commands, shown)
	}
}

// block returns the block of docs/api.md in a language that contains a text.
func block(t *testing.T, language, with string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fenced := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(fenced[1], with) {
			return fenced[1]
		}
	}
	t.Fatalf("docs/api.md has no %s block with %s", language, with)
	return ""
}

// forThisWarble replaces the address in a text by that of this Warble, and the user by a new one.
func forThisWarble(t *testing.T, text string) string {
	t.Helper()
	_, host, _ := strings.Cut(plainURL(t), "://")
	name := "r" + strings.ToLower(rand.Text()[:12])
	return strings.NewReplacer("localhost:8080", host, `"username":"ada"`, `"username":"`+name+`"`, "ada@", name+"@").Replace(text)
}
