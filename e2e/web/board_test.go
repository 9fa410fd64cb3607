//go:build e2e

package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"warble/shared/browsertest"
	"warble/shared/process"
)

// promotion is the longest time of a promotion, which has six stages of a minute.
const promotion = 15 * time.Minute

// program builds a command, and returns the path of the binary.
func program(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", file, "warble/cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return file
}

// environment returns the environment with which kn experiment reaches the experiments.
func (w *warble) environment() []string { return append(os.Environ(), w.reach...) }

// startBoard starts kn experiment dashboard, and returns its URL.
func startBoard(t *testing.T, w *warble) string {
	t.Helper()
	cmd := exec.Command(w.kn, "dashboard", "--namespace", namespace, "--listen", "127.0.0.1:0", "--by", "ada") //nolint:noctx // ended below
	cmd.Env = w.environment()
	cmd.Stderr = t.Output()
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	exited, err := process.Start(cmd, syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // an error means that it has ended
		if err := <-exited; err != nil {
			t.Errorf("the board: %v", err)
		}
	})
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, found := strings.Cut(strings.TrimSpace(line), " at ")
	if !found {
		t.Fatalf("the board says %q: expected its URL", line)
	}
	return url
}

// board watches the experiment on the board, and promotes it with the mouse. Then everybody has the heart.
func board(t *testing.T, w *warble, browser *browsertest.Browser, people *browsertest.Tab) {
	t.Helper()
	url := startBoard(t, w)
	onlyItself(t, url, w.experiment)
	tab := browser.Tab(t, browsertest.View{Width: 1280})
	tab.Open(url + "/")
	look := func(name string) {
		t.Helper()
		for _, view := range browsertest.Views {
			tab.Look(view)
			for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
				t.Errorf("%s, %s: %s", name, view, problem)
			}
			tab.Screenshot(name + "-" + view.String())
		}
	}
	look("board-list")
	tab.Click(`a[href="/experiments/` + w.experiment + `"]`)
	tab.Until("the report is there", `/can like/.test(document.querySelector("h1")?.textContent) && document.querySelector("[data-verb=promote]")`)
	look("board")
	browsertest.Evaluate[bool](tab, `document.querySelectorAll("details").forEach(d => { d.open = true }) || true`)
	for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
		t.Errorf("unfolded: %s", problem)
	}

	act(t, tab, "pause", "somebody asks", "")
	tab.Until("the page shows the pause", `/Paused/.test(document.querySelector(".pill").textContent)`)
	act(t, tab, "resume", "nobody asks any more", "")
	tab.Until("the page shows that it runs", `/Running/.test(document.querySelector(".pill").textContent)`)

	tab.Click("[data-verb=promote]")
	browsertest.Evaluate[bool](tab, `document.querySelector("textarea[name=why]").focus() || true`)
	tab.Press("people like it")
	tab.Click("#dialog-go")
	if browsertest.Evaluate[bool](tab, `!document.querySelector("#dialog-log").hidden`) {
		t.Error("the promotion began without the experiment's name")
	}
	look("board-dialog")
	browsertest.Evaluate[bool](tab, `document.querySelector("input[name=confirm]").focus() || true`)
	tab.Press(w.experiment)
	tab.Click("#dialog-go")
	tab.Until("the dialog shows the stages", `/Promoting/.test(document.querySelector("#dialog-log").textContent)`)
	tab.Within(promotion, "the promotion is done", `/Done/.test(document.querySelector("#dialog-log").textContent)`)
	tab.Click("#dialog-close")
	tab.Until("the page shows the end", `/Concluded/.test(document.querySelector(".pill").textContent)`)
	people.Until("everybody has the heart", `[...document.querySelectorAll("#people [aria-label^=Like]")].length > 0 && [...document.querySelectorAll("#people [aria-label^=Like]")].every(b => !b.hidden)`)
	people.Until("the page says that it is over", `/^No experiment is running/.test(document.querySelector("#lead").textContent)`)
	people.Screenshot("playground-promoted")
	for _, complaint := range tab.Complaints() {
		t.Error(complaint)
	}
	for _, request := range tab.Elsewhere(url) {
		t.Errorf("the board asked for %s", request)
	}
}

// act runs a verb with its button and a reason, and closes the dialog when it is done.
func act(t *testing.T, tab *browsertest.Tab, verb, why, name string) {
	t.Helper()
	tab.Click("[data-verb=" + verb + "]")
	browsertest.Evaluate[bool](tab, `document.querySelector("textarea[name=why]").focus() || true`)
	tab.Press(why)
	if name != "" {
		browsertest.Evaluate[bool](tab, `document.querySelector("input[name=confirm]").focus() || true`)
		tab.Press(name)
	}
	tab.Click("#dialog-go")
	tab.Until(verb+" is done", `/Done/.test(document.querySelector("#dialog-log").textContent)`)
	tab.Click("#dialog-close")
}

// onlyItself checks that the board refuses requests of other pages.
func onlyItself(t *testing.T, url, experiment string) {
	t.Helper()
	for name, change := range map[string]func(*http.Request){
		"another Host":   func(r *http.Request) { r.Host = "board.example" },
		"another origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"another site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"no token":       func(*http.Request) {},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/experiments/"+experiment+"/pause", strings.NewReader(`{"why": "evil"}`))
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body) // for the message
		_ = answer.Body.Close()            // read to its end
		if answer.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s %s: expected 403", name, answer.Status, fmt.Sprintf("%.200s", text))
		}
	}
}
