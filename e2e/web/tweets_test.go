//go:build e2e

package web_test

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"warble/shared/browsertest"
)

// tweets uses the playground's cards with two people of one community.
func tweets(t *testing.T, w *warble, tab *browsertest.Tab) {
	t.Helper()
	var communities struct{ Data []struct{ Slug string } }
	if _, text := w.ask(t, http.MethodGet, "/communities", "", ""); json.Unmarshal([]byte(text), &communities) != nil || len(communities.Data) == 0 {
		t.Fatalf("no communities: %s", text)
	}
	community := communities.Data[len(communities.Data)-1].Slug // new people of the page enter the first ones
	author, reader := w.register(t, "Author", community), w.register(t, "Reader", community)
	tab.Open(w.url + "/")
	for n, u := range []*user{reader, author} {
		signIn(tab, u.email, password)
		tab.Until(u.email+" is there", fmt.Sprintf(`document.querySelectorAll(".arm").length === %d && [...document.querySelectorAll(".arm")].every(a => a.textContent !== "…")`, n+1))
	}
	t.Run("counting", func(t *testing.T) { counting(t, w, tab.For(t), reader) })
	t.Run("paging", func(t *testing.T) { paging(t, w, tab.For(t), author) })
	t.Run("deleting", func(t *testing.T) { deleting(t, w, tab.For(t), reader) })
	t.Run("copying", func(t *testing.T) { copying(t, w, tab.For(t), reader) })
	for _, complaint := range tab.Complaints() {
		t.Error(complaint)
	}
}

// mine is a script that finds the card of the first person.
const mine = `document.querySelector("#people > .card")`

// counting compares the page's count with the API's: a text that the page finds one too long, the API refuses because it weighs 281.
func counting(t *testing.T, w *warble, tab *browsertest.Tab, u *user) {
	t.Helper()
	const left = mine + `.querySelector(".compose span")`
	write := func(text string) string {
		t.Helper()
		return browsertest.Evaluate[string](tab, fmt.Sprintf(`(e => { e.value = %s; e.dispatchEvent(new Event("input")); return %s.textContent })(%s.querySelector("textarea"))`, asJSON(t, text), left, mine))
	}
	for text, weight := range map[string]int{
		"":           0,
		"hello":      5,
		"語とカナ":       8,
		"cafe\u0301": 4, // the last letter has two runes
		"H🐱 👨\u200d👩\u200d👧 🇬🇧":                                    9,
		"https://example.com/a/long/path?x=12":                     23,
		"HTTP://EXAMPLE.COM":                                       23,
		"see http://example.com, and (https://example.com/a_(b)).": 59,
	} {
		if got, want := write(text), strconv.Itoa(280-weight); got != want {
			t.Errorf("%q leaves %s, want %s", text, got, want)
		}
		long := text + " " + strings.Repeat("x", 280-weight)
		if got := write(long); got != "-1" {
			t.Errorf("%q and more leaves %s, want -1", text, got)
		}
		if answer, said := w.ask(t, http.MethodPost, "/2/tweets", asJSON(t, map[string]string{"text": long}), u.Token); answer.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(said, "weighs 281") {
			t.Errorf("%q and more: %s %s: expected a 422, because it weighs 281", text, answer.Status, said)
		}
	}
	if !browsertest.Evaluate[bool](tab, left+`.matches(".over")`) {
		t.Error("a text that is too long looks like any other")
	}
	write("")
}

// post posts a tweet over the API, and returns its id.
func post(t *testing.T, w *warble, u *user, text string) (id string) {
	t.Helper()
	answer, said := w.ask(t, http.MethodPost, "/2/tweets", asJSON(t, map[string]string{"text": text}), u.Token)
	var made struct{ Data struct{ ID string } }
	if err := json.Unmarshal([]byte(said), &made); err != nil || answer.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s %s %v", text, answer.Status, said, err)
	}
	return made.Data.ID
}

// paging reads a timeline of several pages, while more tweets arrive than a page has. Each is shown once.
func paging(t *testing.T, w *warble, tab *browsertest.Tab, author *user) {
	t.Helper()
	const shown = `[...` + mine + `.querySelectorAll(".tweet p")].map(p => p.textContent)`
	const more = `[...` + mine + `.querySelectorAll("button")].find(b => b.textContent === "Older tweets")`
	var posted []string // the latest first
	posts := func(what string, n int) {
		t.Helper()
		for i := range n {
			posted = slices.Insert(posted, 0, fmt.Sprintf("%s %d of @%s", what, i+1, author.Data.Username))
			post(t, w, author, posted[0])
		}
	}
	arrive := func() {
		t.Helper()
		tab.Until("the latest tweet is there", fmt.Sprintf(`(%s)[0] === %q`, shown, posted[0]))
	}
	// complete reads older tweets until the oldest is there, and compares.
	complete := func() {
		t.Helper()
		for oldest := posted[len(posted)-1]; !slices.Contains(browsertest.Evaluate[[]string](tab, shown), oldest); {
			before := browsertest.Evaluate[int](tab, `(`+shown+`).length`)
			browsertest.Evaluate[bool](tab, `(b => b.focus() || b.click() || true)(`+more+`)`)
			tab.Until("older tweets are there", fmt.Sprintf(`(%s).length > %d && !(%s).disabled`, shown, before, more))
			if !browsertest.Evaluate[bool](tab, mine+`.contains(document.activeElement)`) {
				t.Error("the focus is lost when older tweets are there")
			}
		}
		got := slices.DeleteFunc(browsertest.Evaluate[[]string](tab, shown), func(text string) bool { return !strings.HasSuffix(text, " of @"+author.Data.Username) })
		if !slices.Equal(got, posted) {
			t.Errorf("the card shows\n%q\nwant\n%q", got, posted)
		}
	}
	posts("before", 25)
	tab.Reload()
	tab.Until("the timeline is there", fmt.Sprintf(`%s && (%s).length > 0`, mine, shown))
	if n := browsertest.Evaluate[int](tab, `(`+shown+`).length`); n != 10 {
		t.Errorf("%d tweets are there without a click: expected a page of 10", n)
	}
	posts("meanwhile", 1)
	arrive()
	complete()
	posts("together", 15)
	arrive()
	complete()
}

// deleting deletes an own tweet. It is gone for everybody.
func deleting(t *testing.T, w *warble, tab *browsertest.Tab, u *user) {
	t.Helper()
	const rows = `[...document.querySelectorAll(".tweet")].filter(e => e.querySelector("p").textContent === "to be deleted")`
	const buttons = rows + `.flatMap(e => [...e.querySelectorAll("[aria-label='Delete this tweet']")])`
	id := post(t, w, u, "to be deleted")
	tab.Until("both people see it", rows+".length === 2")
	if n := browsertest.Evaluate[int](tab, buttons+".length"); n != 1 {
		t.Errorf("%d people can delete it: expected only its author", n)
	}
	browsertest.Evaluate[bool](tab, `(b => b.focus() || b.click() || true)(`+buttons+`[0])`)
	tab.Until("it is gone from both cards", rows+".length === 0")
	if at := browsertest.Evaluate[string](tab, `document.activeElement.tagName`); at != "TEXTAREA" {
		t.Errorf("the focus is on %s: expected the text of the next tweet", at)
	}
	if answer, said := w.ask(t, http.MethodGet, "/2/tweets/"+id, "", u.Token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("the API still has it: %s %s", answer.Status, said)
	}
}

// copying copies the last call as a command, as Go and as JavaScript. The command and the JavaScript repeat the call, and the Go is Go.
func copying(t *testing.T, w *warble, tab *browsertest.Tab, u *user) {
	t.Helper()
	const text = `it's "quoted" \ $HOME`
	const field = mine + `.querySelector("textarea")`
	browsertest.Evaluate[bool](tab, field+`.focus() || true`)
	tab.Press(text)
	browsertest.Evaluate[bool](tab, mine+`.querySelector("form").requestSubmit() || true`)
	tab.Until("the tweet is there", fmt.Sprintf(`%s.querySelector(".tweet p")?.textContent === %q && %s.value === ""`, mine, text, field))
	copied := func(language string) string {
		t.Helper()
		browsertest.Evaluate[string](tab, `document.querySelector("#copied").textContent = ""`)
		tab.Click("[data-copy=" + language + "]")
		tab.Until("it is copied", `document.querySelector("#copied").textContent !== ""`)
		if browsertest.Evaluate[bool](tab, `document.querySelector("#copied").textContent !== "Copied."`) { // without TLS, on another host than loopback
			return browsertest.Evaluate[string](tab, `getSelection().toString()`)
		}
		browsertest.Evaluate[bool](tab, field+`.focus() || true`)
		tab.Paste()
		return browsertest.Evaluate[string](tab, fmt.Sprintf(`(e => { const text = e.value; e.value = ""; return text })(%s)`, field))
	}
	if command := copied("curl"); w.at == nil { // curl would not find the host of an ingress
		shell := exec.CommandContext(t.Context(), "sh", "-c", command+" --silent --show-error --include")
		shell.Env = append(os.Environ(), "TOKEN="+u.Token)
		said, err := shell.CombinedOutput()
		if err != nil || !strings.Contains(string(said), " 201 Created") || !strings.Contains(strings.ToLower(string(said)), "idempotency-replayed: true") {
			t.Errorf("%s\n%v\n%s\nexpected the first answer again", command, err, said)
		}
	}
	script := copied("js")
	again := browsertest.Evaluate[string](tab, fmt.Sprintf("(async token => { %s\nreturn answer.status + ' ' + answer.headers.get('Idempotency-Replayed') })(%q)", script, u.Token))
	if again != "201 true" {
		t.Errorf("%s\nanswers %q: expected the first answer again", script, again)
	}
	program := copied("go")
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package x\nfunc f() error {\n"+program+"\n}", 0); err != nil || !strings.Contains(program, `"POST"`) {
		t.Errorf("%s\n%v", program, err)
	}
}
