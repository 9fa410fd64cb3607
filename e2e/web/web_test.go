//go:build e2e

// Package web_test uses the playground and the board in a browser, like people: on its own local run with an experiment,
// or at WARBLE_URL, for example a cluster's ingress (with WARBLE_HOST as the Host header), with an experiment that it
// starts and deletes.
package web_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"warble/shared/apitest"
	"warble/shared/browsertest"
	"warble/shared/store/pgserver"
)

const (
	experimentFile = "knative/experiments/likes-demo.yaml"
	axe            = "node_modules/axe-core/axe.min.js"
	// mostPeople is enough to fill both arms: the chance that so many are all in one arm is 2 in a million.
	mostPeople = 20
)

// warble is the Warble under test. The database of a local run can be stopped. Without a local run, local is nil.
type warble struct {
	url        string   // of the playground, as the browser knows it
	at         []string // where the browser finds its host, if that is elsewhere; see browsertest.Open
	client     *http.Client
	experiment string   // the name
	kn         string   // the program kn-experiment
	reach      []string // variables by which kn-experiment finds the experiments

	local    *apitest.Local
	database *pgserver.Server
	folder   string
}

func start(t *testing.T, experiment string) *warble {
	t.Helper()
	w := &warble{client: http.DefaultClient, experiment: "likes-demo", kn: program(t, "kn-experiment")}
	var err error
	if w.folder, err = os.MkdirTemp("", "warble-web-"); err != nil { // not t.TempDir: PostgreSQL's own account must pass through
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(w.folder) }) // the system clears its temporary folder as well
	w.startDatabase(t)
	t.Cleanup(func() {
		if err := w.database.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.local, err = apitest.StartExperiment(t.Context(), experiment, "DATABASE_URL="+w.database.Superuser("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.local.Stop(); err != nil {
			t.Errorf("local run: %v\n%s", err, w.local.Log())
		}
	})
	w.url = w.local.URL
	kubeconfig, err := w.local.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	database, err := w.local.DatabaseURL()
	if err != nil {
		t.Fatal(err)
	}
	w.reach = []string{"KUBECONFIG=" + kubeconfig, "DATABASE_URL=" + database}
	return w
}

// log returns the output of a local run.
func (w *warble) log() string {
	if w.local == nil {
		return ""
	}
	return w.local.Log()
}

// waitForArms waits until somebody is in an arm. A page that is opened before would request likes that do not exist yet.
func (w *warble) waitForArms(t *testing.T) {
	t.Helper()
	ask := func(method, path, body, token string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	var session struct {
		Data  struct{ ID string }
		Token string
	}
	if err := json.NewDecoder(ask(http.MethodPost, "/auth/register", fmt.Sprintf(`{"name": "First", "email": "first-%s@example.org", "password": "difference-engine-1822"}`, strings.ToLower(rand.Text())), "").Body).Decode(&session); err != nil {
		t.Fatal(err)
	}
	const limit = 3 * time.Minute
	for began := time.Now(); ask(http.MethodGet, "/2/users/"+session.Data.ID+"/tweets", "", session.Token).Header.Get("X-Variant") == ""; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("nobody is in an arm after %s\n%s", limit, w.log())
		}
	}
}

func (w *warble) startDatabase(t *testing.T) {
	t.Helper()
	var err error
	if w.database, err = pgserver.Start(t.Context(), w.folder, pgserver.Options{}); err != nil {
		t.Fatal(err)
	}
}

// card returns a script that finds a person's card by their arm.
func card(arm string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#people > .card")].find(c => c.querySelector(".arm").textContent === %q)`, arm)
}

const (
	control   = "control"
	treatment = "treatment"
)

// register adds people until both arms occur.
func register(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	for n := 1; n <= mostPeople; n++ {
		tab.Click("#add")
		tab.Until("another person has an arm", fmt.Sprintf(`document.querySelectorAll(".arm").length === %d && [...document.querySelectorAll(".arm")].every(a => ["control", "treatment"].includes(a.textContent))`, n))
		if browsertest.Evaluate[bool](tab, card(control)+" != null && "+card(treatment)+" != null") {
			return
		}
	}
	t.Fatalf("%d people are all in one arm", mostPeople)
}

// TestWeb makes the steps of somebody who has just started Warble. Its parts share a Warble, and run in this order.
func TestWeb(t *testing.T) {
	var w *warble
	if os.Getenv("WARBLE_URL") != "" {
		w = deployed(t)
	} else {
		w = start(t, experimentFile)
	}
	w.waitForArms(t)
	browser := browsertest.Open(t, w.at...)
	tab := browser.Tab(t, browsertest.View{Width: 1280})
	tab.Open(w.url + "/")
	t.Run("playground", func(t *testing.T) { playground(t, w, tab.For(t)) })
	t.Run("keyboard", func(t *testing.T) {
		keys := browser.Tab(t, browsertest.View{Width: 1280})
		keys.Open(w.url + "/")
		keyboard(t, keys)
	})
	t.Run("docs", func(t *testing.T) { docs(t, w, browser.Tab(t, browsertest.View{Width: 390})) })
	t.Run("board", func(t *testing.T) { board(t, w, browser, tab.For(t)) })
	if w.local == nil {
		t.Log("left out, because it stops the database of a local run: outage")
		return
	}
	t.Run("outage", func(t *testing.T) { outage(t, w, tab.For(t)) })
}

// playground registers people until both arms occur, and checks what each of them sees.
func playground(t *testing.T, w *warble, tab *browsertest.Tab) {
	t.Helper()
	tab.Until("the page knows the communities", `document.querySelectorAll("select[name=community] option").length > 1`)
	if n := browsertest.Evaluate[int](tab, `performance.getEntriesByType("resource").filter(r => r.initiatorType !== "fetch").length`); n > 3 {
		t.Errorf("the page loads %d files: expected a stylesheet, a script and an icon", n)
	}
	for _, late := range browsertest.Evaluate[[]string](tab, `performance.getEntriesByType("resource").filter(r => r.initiatorType === "script" || r.initiatorType === "css").map(r => r.name).filter(n => !document.querySelector('script[src="' + new URL(n).pathname + '"], link[href="' + new URL(n).pathname + '"]'))`) {
		t.Errorf("%s is asked for only once another file is there: expected one round trip", late)
	}
	register(t, tab)
	tab.Until("the page says what to look for", `/In the treatment there is a heart/.test(document.querySelector("#lead").textContent)`)
	const people = `document.querySelectorAll("#people > .card").length`
	if browsertest.Evaluate[int](tab, people) < 3 { // one whose community has no tweets
		tab.Click("#add")
		tab.Until("a third person is there", people+" === 3")
	}

	for arm, hearts := range map[string]bool{control: false, treatment: true} {
		text := "hello from " + arm
		browsertest.Evaluate[bool](tab, card(arm)+`.querySelector("textarea").focus() || true`)
		tab.Press(text)
		tab.Press(kb.Tab + kb.Enter) // the button is next
		tab.Until(text+" is there", fmt.Sprintf(`[...%s.querySelectorAll(".tweet p")].some(p => p.textContent === %q)`, card(arm), text))
		tab.Until("the heart of "+arm, fmt.Sprintf(`[...%s.querySelectorAll("[aria-label^=Like]")].every(b => !b.hidden === %v)`, card(arm), hearts))
	}

	const like = `.querySelector("[aria-label^=Like]")`
	browsertest.Evaluate[bool](tab, card(treatment)+like+".click() || true")
	tab.Until("the like counts", card(treatment)+like+`.textContent.includes("♥ 1")`)
	tab.Until("what happened is told", `/likes[^]*200 in[^]*X-Variant: treatment/.test(document.querySelector("#call").textContent)`)

	before := browsertest.Evaluate[string](tab, arms)
	tab.Reload()
	tab.Until("the reload keeps everybody's arm", fmt.Sprintf(`%s === %q`, arms, before))
	tab.Until("the reload keeps the like", card(treatment)+` && `+card(treatment)+like+`?.getAttribute("aria-pressed") === "true"`)

	for _, view := range browsertest.Views {
		tab.Look(view)
		for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
			t.Errorf("%s: %s", view, problem)
		}
		tab.Screenshot("playground-" + view.String())
	}
	for _, complaint := range tab.Complaints() {
		t.Error(complaint)
	}
	for _, url := range tab.Elsewhere(w.url) {
		t.Errorf("the page asked for %s", url)
	}
}

// docs reads the contract on a phone, and authorizes; the authorization stays after the page is closed.
func docs(t *testing.T, w *warble, tab *browsertest.Tab) {
	t.Helper()
	tab.Open(w.url + "/docs")
	const operations = `document.querySelectorAll(".opblock").length`
	tab.Until("the operations are there", operations+" > 20")
	tab.Click(".btn.authorize")
	tab.Until("the form is open", `document.querySelector(".auth-container input")`)
	browsertest.Evaluate[bool](tab, `document.querySelector(".auth-container input").focus() || true`)
	tab.Press("a token")
	tab.Click(".auth-btn-wrapper .authorize")
	tab.Click(".auth-btn-wrapper .btn-done")
	tab.Reload()
	tab.Until("the token outlasts the reload", operations+` > 20 && document.querySelector(".btn.authorize.locked")`)
	tab.Click("#operations-tweet-postTweet .opblock-summary-control")
	tab.Until("an operation unfolds", `document.querySelector("#operations-tweet-postTweet .opblock-body")`)
	for _, view := range browsertest.Views {
		tab.Look(view)
		if view.Dark == (view.Width > 390) { // a phone in the light, a desk in the dark: it is a long page
			for _, barrier := range tab.Barriers(axe) {
				t.Errorf("the contract, %s: %s", view, barrier)
			}
		}
		if over := browsertest.Evaluate[int](tab, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			t.Errorf("the contract is %d px wider than the page, %s", over, view)
		}
		tab.Screenshot("docs-" + view.String())
	}
	for _, complaint := range tab.Complaints() {
		t.Error(complaint)
	}
	for _, url := range tab.Elsewhere(w.url) {
		t.Errorf("the page asked for %s", url)
	}
}

// arms are who is in which.
const arms = `[...document.querySelectorAll("#people > .card")].map(c => c.querySelector("h2").id + " " + c.querySelector(".arm").textContent).join()`

// outage stops the database: the page keeps its content, explains the problem in words, and recovers by itself.
func outage(t *testing.T, w *warble, tab *browsertest.Tab) {
	t.Helper()
	if err := w.database.Stop(); err != nil {
		t.Fatal(err)
	}
	const said = `[...document.querySelectorAll(".card .notice:not([hidden])")].filter(n => /cannot answer at the moment/.test(n.textContent)).length`
	people := browsertest.Evaluate[int](tab, `document.querySelectorAll("#people > .card").length`)
	tab.Until("each card says that Warble cannot answer", fmt.Sprintf("%s === %d", said, people))
	for _, view := range browsertest.Views {
		tab.Look(view)
		for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
			t.Errorf("without a database, %s: %s", view, problem)
		}
		tab.Screenshot("playground-outage-" + view.String())
	}
	if n := browsertest.Evaluate[int](tab, `document.querySelectorAll(".tweet").length`); n == 0 {
		t.Error("the tweets are gone from the page")
	}
	w.startDatabase(t)
	tab.Until("the page recovers by itself", said+" === 0")
	tab.Click("#add")
	tab.Until("one more person can come", fmt.Sprintf(`document.querySelectorAll("#people > .card").length === %d`, people+1))
}

// keyboard does everything without a mouse.
func keyboard(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	// reach presses Tab until the element that a script describes has the focus.
	reach := func(what, is string) {
		t.Helper()
		for range 40 {
			tab.Press(kb.Tab)
			if browsertest.Evaluate[bool](tab, "Boolean((e => "+is+")(document.activeElement))") {
				if outline := browsertest.Evaluate[string](tab, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
					t.Errorf("nobody sees that %s has the focus", what)
				}
				return
			}
		}
		t.Fatalf("40 times Tab have not come to %s", what)
	}
	reach("the button that adds a person", `e.id === "add"`)
	tab.Press(kb.Enter)
	tab.Until("a person is there", `document.querySelector(".arm")?.textContent in {control: 1, treatment: 1}`)
	reach("the text of a tweet", `e.tagName === "TEXTAREA"`)
	tab.Press("by keyboard")
	reach("the button that tweets", `e.textContent === "Tweet"`)
	tab.Press(kb.Enter)
	tab.Until("the tweet is there", `[...document.querySelectorAll(".tweet p")].some(p => p.textContent === "by keyboard")`)
	reach("the button that retweets", `/^Retweet/.test(e.getAttribute("aria-label"))`)
	tab.Press(" ")
	tab.Until("the tweet is retweeted", `document.activeElement.matches("[aria-label^=Retweet][aria-pressed=true]")`)
	reach("four stars", `/^4 of 5/.test(e.getAttribute("aria-label"))`)
	tab.Press(kb.Enter)
	tab.Until("the feedback is taken", `/Thank you/.test(document.querySelector(".foot").textContent)`)
	reach("the button that signs out", `e.textContent === "Sign out"`)
	tab.Press(kb.Enter)
	tab.Until("nobody is left", `!document.querySelector("#people > .card")`)
	reach("the form", `e.id === "enter"`)
	tab.Press(kb.Enter)
	tab.Until("the form is open", `document.querySelector("#dialog").open`)
	tab.Press(kb.Escape)
	tab.Until("the form is closed", `!document.querySelector("#dialog").open`)
}

// TestTheChecksOfPagesFindMistakes: the checks of these tests find a barrier, a request to another host, and a message in the console.
func TestTheChecksOfPagesFindMistakes(t *testing.T) {
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><title>x</title><h1>x</h1><main><img src="%s/picture"><button></button><p style="color:#ccc">pale</p></main><script>console.error("woe")</script></html>`, elsewhere.URL) // the browser has gone
	}))
	t.Cleanup(page.Close)
	tab := browsertest.Open(t).Tab(t, browsertest.View{Width: 390})
	tab.Open(page.URL)
	barriers := strings.Join(tab.Barriers(axe), "\n")
	for _, want := range []string{"image-alt", "button-name", "color-contrast"} {
		if !strings.Contains(barriers, want) {
			t.Errorf("no %s among\n%s", want, barriers)
		}
	}
	if urls := tab.Elsewhere(page.URL); len(urls) != 1 || urls[0] != elsewhere.URL+"/picture" {
		t.Errorf("asked of another host: %q, want the picture", urls)
	}
	if complaints := strings.Join(tab.Complaints(), "\n"); !strings.Contains(complaints, "woe") {
		t.Errorf("no complaint of the console among\n%s", complaints)
	}
}

// TestAPageIsCheckedAfterItsTransitions: a page whose colours change for a minute is checked in its final state.
func TestAPageIsCheckedAfterItsTransitions(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!DOCTYPE html><html lang="en"><title>x</title><style>
			p { color: rgb(1, 1, 1); transition: all 60s }
			@media (prefers-color-scheme: dark) { p { color: rgb(200, 200, 200) } }
			@media (width > 500px) { p { border-left: 9px solid } }
		</style><p>slow</p></html>`) // the browser has gone
	}))
	t.Cleanup(page.Close)
	tab := browsertest.Open(t).Tab(t, browsertest.View{Width: 390})
	tab.Open(page.URL)
	tab.Look(browsertest.View{Width: 1280, Dark: true})
	const look = `(({ color, borderLeftWidth }) => color + " " + borderLeftWidth)(getComputedStyle(document.querySelector("p")))`
	if got, want := browsertest.Evaluate[string](tab, look), "rgb(200, 200, 200) 9px"; got != want {
		t.Errorf("the paragraph is %s, want %s", got, want)
	}
}
