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

	"github.com/chromedp/chromedp/kb"

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

// dashboard is a process of kn experiment dashboard.
type dashboard struct {
	url string

	log    io.Writer
	cmd    *exec.Cmd
	exited <-chan error
}

// startBoard starts the board. It ends with the test.
func startBoard(t *testing.T, w *warble) *dashboard {
	t.Helper()
	b := &dashboard{log: t.Output()}
	b.start(t, w, "127.0.0.1:0")
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *dashboard) start(t *testing.T, w *warble, listen string) {
	t.Helper()
	b.cmd = exec.Command(w.kn, "dashboard", "--namespace", namespace, "--listen", listen, "--by", "ada") //nolint:noctx // stop ends it
	b.cmd.Env, b.cmd.Stderr = w.environment(), b.log
	said, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if b.exited, err = process.Start(b.cmd, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, found := strings.Cut(strings.TrimSpace(line), " at ")
	if !found {
		t.Fatalf("the board says %q: expected its URL", line)
	}
	b.url = url
}

func (b *dashboard) stop(t *testing.T) {
	t.Helper()
	if b.exited == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGINT) // an error means that it has ended
	if err := <-b.exited; err != nil {
		t.Errorf("the board: %v", err)
	}
	b.exited = nil
}

// Scripts about the page of an experiment.
const (
	isPaused  = `/Paused/.test(document.querySelector(".pill")?.textContent)`
	isRunning = `/Running/.test(document.querySelector(".pill")?.textContent)`
	isLive    = `document.querySelector("#updated").textContent === "live"`
	isOpen    = `document.querySelector("#dialog").open`
	isReport  = `/can like/.test(document.querySelector("h1")?.textContent) && document.querySelector("[data-verb=promote]")`
)

// examine checks the page in every view.
func examine(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	for _, view := range browsertest.Views {
		tab.Look(view)
		for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
			t.Errorf("%s, %s: %s", name, view, problem)
		}
		tab.Screenshot(name + "-" + view.String())
	}
}

// looks checks the list and the page of an experiment. What decides is on the first two screens.
func looks(t *testing.T, w *warble, b *dashboard, tab *browsertest.Tab) {
	t.Helper()
	onlyItself(t, b.url, w.experiment)
	examine(t, tab, "board-list")
	tab.Click(`a[href="/experiments/` + w.experiment + `"]`)
	tab.Until("the report is there", isReport)
	examine(t, tab, "board")
	const screen = 800
	for _, part := range []string{".advice .sentence", ".advice .do", "#actions", ".tiles"} {
		if end, details := tab.Ends(part), tab.Begins("details"); end == 0 || end > 2*screen || end > details {
			t.Errorf("%s ends at %.0f px, and details begin at %.0f px: expected it before them and within two screens of %d px", part, end, details, screen)
		}
	}
	browsertest.Evaluate[bool](tab, `document.querySelectorAll("details").forEach(d => { d.open = true }) || true`)
	for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
		t.Errorf("unfolded: %s", problem)
	}
}

// boardKeyboard reaches every verb without a mouse, and pauses the experiment.
func boardKeyboard(t *testing.T, w *warble, b *dashboard, tab *browsertest.Tab) {
	t.Helper()
	tab.Open(b.url + "/")
	reach(t, tab, "the experiment", `e.getAttribute("href") === "/experiments/`+w.experiment+`"`)
	tab.Press(kb.Enter)
	tab.Until("the report is there", isReport)
	ask := func(verb, why string) {
		t.Helper()
		reach(t, tab, verb, `e.dataset.verb === "`+verb+`"`)
		tab.Press(kb.Enter)
		tab.Until("the dialog asks for the reason", isOpen+` && document.activeElement.name === "why"`)
		tab.Press(why)
	}
	for _, verb := range []string{"promote", "rollback"} {
		ask(verb, "by keyboard")
		reach(t, tab, "the name", `e.name === "confirm"`)
		tab.Press("another name" + kb.Enter)
		tab.Until("the board wants the experiment's name", `/expected `+w.experiment+`, because this cannot be undone/.test(document.querySelector("#dialog-log").textContent)`)
		if kept := browsertest.Evaluate[string](tab, `document.querySelector("#form").elements.why.value`); kept != "by keyboard" {
			t.Errorf("the reason has become %q", kept)
		}
		tab.Press(kb.Escape)
		tab.Until("the dialog is closed, and the focus is back", `!`+isOpen+` && document.activeElement.dataset.verb === "`+verb+`"`)
		seen(t, tab, verb)
	}
	ask("pause", "by keyboard")
	reach(t, tab, "the button of the dialog", `e.id === "dialog-go"`)
	tab.Press(kb.Enter)
	tab.Until("it is done", `/Done/.test(document.querySelector("#dialog-log").textContent) && document.activeElement.id === "dialog-close"`)
	tab.Press(kb.Enter)
	tab.Until("the page shows the pause, and the focus is on what can be done now", isPaused+` && document.activeElement.dataset.verb === "resume"`)

	reach(t, tab, "the details", `e.matches("summary")`)
	tab.Press(kb.Enter)
	const opened = `document.activeElement.matches("summary") && document.activeElement.parentElement.open`
	tab.Until("the details are open", opened)
	w.verb(t, "resume")
	tab.Until("the page shows that it runs", isRunning)
	if !browsertest.Evaluate[bool](tab, opened) {
		t.Error("the details are closed or have lost the focus when the page has changed")
	}
	onlyFailures(t, tab)
}

// verb runs a verb in a shell.
func (w *warble) verb(t *testing.T, verb string) {
	t.Helper()
	if said, err := w.command(t.Context(), verb, w.experiment, "--message", "in a shell"); err != nil {
		t.Fatalf("%s: %v\n%s", verb, err, said)
	}
}

// live leaves the page open. It shows what others do, also after the board was started again. It leaves the experiment paused.
func live(t *testing.T, w *warble, b *dashboard, tab *browsertest.Tab) {
	t.Helper()
	browsertest.Evaluate[bool](tab, `window.opened = true`)
	tab.Look(browsertest.View{Width: 1280})
	tab.Click("[data-verb=pause]")
	tab.Press("not sent yet")
	w.verb(t, "pause")
	tab.Until("the page shows the pause", isPaused)
	if kept := browsertest.Evaluate[string](tab, `document.querySelector("#dialog[open] textarea").value`); kept != "not sent yet" {
		t.Errorf("the reason has become %q", kept)
	}
	tab.Press(kb.Escape)
	tab.Until("the dialog is closed, and the focus is on what can be done now", `!`+isOpen+` && document.activeElement.dataset.verb === "resume"`)

	b.stop(t)
	tab.Until("the page says that the board has ended", `/not reachable/.test(document.querySelector("#updated").textContent)`)
	w.verb(t, "resume")
	b.start(t, w, strings.TrimPrefix(b.url, "http://"))
	tab.Until("the page is live again", isLive)
	if !browsertest.Evaluate[bool](tab, isRunning) {
		t.Error("the page says that it is live, and does not show what happened meanwhile")
	}
	act(t, tab, "pause", "with the token of the new board")
	tab.Until("the page shows the second pause", isPaused)
	if !browsertest.Evaluate[bool](tab, `window.opened`) {
		t.Error("the page was loaded again")
	}
	onlyFailures(t, tab)
}

// promote resumes the experiment if it is paused, and promotes it with the mouse. Then everybody has the heart.
func promote(t *testing.T, w *warble, tab, people *browsertest.Tab) {
	t.Helper()
	if browsertest.Evaluate[bool](tab, isPaused) {
		act(t, tab, "resume", "nobody asks any more")
	}
	tab.Until("the page shows that it runs", isRunning)
	complaints := len(tab.Complaints())
	tab.Click("[data-verb=promote]")
	tab.Press("people like it")
	tab.Click("#dialog-go")
	if browsertest.Evaluate[bool](tab, `!document.querySelector("#dialog-log").hidden`) {
		t.Error("the promotion began without the experiment's name")
	}
	examine(t, tab, "board-dialog")
	browsertest.Evaluate[bool](tab, `document.querySelector("input[name=confirm]").focus() || true`)
	tab.Press(w.experiment)
	tab.Click("#dialog-go")
	tab.Until("the dialog shows the stages", `/Promoting/.test(document.querySelector("#dialog-log").textContent)`)
	tab.Within(promotion, "the promotion is done", `/Done/.test(document.querySelector("#dialog-log").textContent)`)
	tab.Click("#dialog-close")
	tab.Until("the page shows the end", `/Concluded/.test(document.querySelector(".pill")?.textContent)`)
	people.Until("everybody has the heart", `[...document.querySelectorAll("#people [aria-label^=Like]")].length > 0 && [...document.querySelectorAll("#people [aria-label^=Like]")].every(b => !b.hidden)`)
	people.Until("the page says that it is over", `/^No experiment is running/.test(document.querySelector("#lead").textContent)`)
	people.Screenshot("playground-promoted")
	for _, complaint := range tab.Complaints()[complaints:] {
		t.Error(complaint)
	}
	for _, request := range tab.Elsewhere(browsertest.Evaluate[string](tab, "location.origin")) {
		t.Errorf("the board asked for %s", request)
	}
}

// act runs a verb with its button and a reason, and closes the dialog when it is done.
func act(t *testing.T, tab *browsertest.Tab, verb, why string) {
	t.Helper()
	tab.Click("[data-verb=" + verb + "]")
	tab.Press(why)
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
