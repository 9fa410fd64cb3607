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
	first := w.register(t, "First", "")
	const limit = 3 * time.Minute
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if answer, _ := w.ask(t, http.MethodGet, "/2/users/"+first.Data.ID+"/tweets", "", first.Token); answer.Header.Get("X-Variant") != "" {
			return
		}
		if time.Since(began) > limit {
			t.Fatalf("nobody is in an arm after %s\n%s", limit, w.log())
		}
	}
}

// ask sends a request to the API, and returns the answer and its body. An empty token is not sent.
func (w *warble) ask(t *testing.T, method, path, body, token string) (answer *http.Response, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err = w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(content)
}

// user is somebody who was registered over the API.
type user struct {
	Data  struct{ ID, Username string }
	Token string

	email string
}

const password = "difference-engine-1822"

// register registers a user. An empty community means none.
func (w *warble) register(t *testing.T, name, community string) *user {
	t.Helper()
	u := &user{email: strings.ToLower(name + "-" + rand.Text() + "@example.org")}
	fields := map[string]string{"name": name, "email": u.email, "password": password}
	if community != "" {
		fields["community"] = community
	}
	answer, text := w.ask(t, http.MethodPost, "/auth/register", asJSON(t, fields), "")
	if err := json.Unmarshal([]byte(text), u); err != nil || answer.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %v", answer.Status, text, err)
	}
	return u
}

// asJSON returns a value as JSON, which is JavaScript, too.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fill clicks a field and writes into it.
func fill(tab *browsertest.Tab, selector, text string) {
	tab.Click(selector)
	tab.Press(text)
}

// signIn signs in a user with the playground's form.
func signIn(tab *browsertest.Tab, email, password string) {
	tab.Click("#enter")
	fill(tab, `#form input[name="email"]`, email)
	fill(tab, `#form input[name="password"]`, password)
	tab.Click("#form-go")
	tab.Until("the form is closed", `!document.querySelector("#dialog").open`)
}

// failures are complaints about requests that failed, which a page cannot prevent.
const failures = "Failed to load resource"

// onlyFailures reports complaints of a page other than that a request failed.
func onlyFailures(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	for _, complaint := range tab.Complaints() {
		if !strings.Contains(complaint, failures) {
			t.Error(complaint)
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
	t.Run("tweets", func(t *testing.T) { tweets(t, w, browser.Tab(t, browsertest.View{Width: 1280})) })
	t.Run("docs", func(t *testing.T) { docs(t, w, browser.Tab(t, browsertest.View{Width: 390})) })
	t.Run("docs session", func(t *testing.T) { docsSession(t, w, browser.Tab(t, browsertest.View{Width: 1280})) })
	b := startBoard(t, w)
	board := browser.Tab(t, browsertest.View{Width: 1280})
	board.Open(b.url + "/")
	t.Run("board", func(t *testing.T) { looks(t, w, b, board.For(t)) })
	t.Run("board by keyboard", func(t *testing.T) { boardKeyboard(t, w, b, browser.Tab(t, browsertest.View{Width: 1280})) })
	t.Run("board live", func(t *testing.T) { live(t, w, b, board.For(t)) })
	if w.local != nil {
		t.Run("outage", func(t *testing.T) { outage(t, w, b, browser, tab.For(t)) })
	} else {
		t.Log("left out, because it stops the database of a local run: outage")
	}
	t.Run("promotion", func(t *testing.T) { promote(t, w, board.For(t), tab.For(t)) })
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

	for _, arm := range []string{control, treatment} { // in this order, so that the latest tweet is the treatment's own
		text, hearts := "hello from "+arm, arm == treatment
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

// docsSession registers with an operation of the contract's page. The page then signs in for all operations, also after the access token
// has expired and after a reload, until somebody logs out.
func docsSession(t *testing.T, w *warble, tab *browsertest.Tab) {
	t.Helper()
	const ready = `document.querySelectorAll(".opblock").length > 20`
	const locked = `document.querySelector(".btn.authorize.locked")`
	const token = `ui.authSelectors.authorized().getIn(["bearer", "value"])`
	within := func(operation, what, script string) {
		t.Helper()
		tab.Until(operation+": "+what, fmt.Sprintf(`(o => %s)(document.querySelector("#operations-%s"))`, script, operation))
	}
	open := func(operation string) {
		t.Helper()
		tab.Click("#operations-" + operation + " .opblock-summary-control")
		tab.Click("#operations-" + operation + " .try-out__btn")
		within(operation, "the form is open", `o.querySelector(".execute")`)
	}
	execute := func(operation, status string) {
		t.Helper()
		browsertest.Evaluate[bool](tab, fmt.Sprintf(`document.querySelector("#operations-%s .btn-clear")?.click() || true`, operation))
		tab.Click("#operations-" + operation + " .execute")
		within(operation, "the answer is a "+status, fmt.Sprintf(`o.querySelector(".live-responses-table .response .response-col_status")?.textContent.trim().startsWith(%q)`, status))
	}
	tab.Open(w.url + "/docs")
	tab.Until("the operations are there", ready)
	open("register-register")
	name := strings.ToLower(rand.Text()[:10])
	// React notices a new text by this event.
	within("register-register", "the account is filled in", fmt.Sprintf(`(e => {
		Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(e, %q)
		return e.dispatchEvent(new Event("input", {bubbles: true}))
	})(o.querySelector("textarea.body-param__text"))`, asJSON(t, map[string]string{"name": "Docs", "username": name, "email": name + "@example.org", "password": password})))
	execute("register-register", "201")
	tab.Until("the page is signed in", locked)
	open("users-getMe")
	execute("users-getMe", "200")

	first := browsertest.Evaluate[string](tab, token)
	browsertest.Evaluate[any](tab, fmt.Sprintf(`ui.getStore().dispatch({type: "authorize", payload: {bearer: {value: %q, schema: ui.specSelectors.specJson().getIn(["components", "securitySchemes", "bearer"])}}}); null`, w.expired(t, first)))
	execute("users-getMe", "200")
	if renewed := browsertest.Evaluate[string](tab, token); renewed == first {
		t.Error("the page has not renewed the access token")
	} else {
		within("users-getMe", "the command has the new token", fmt.Sprintf(`o.querySelector(".curl")?.textContent.includes(%q)`, renewed))
	}
	tab.Open("about:blank") // a reload would unfold the operations of the address by itself
	tab.Open(w.url + "/docs")
	tab.Until("the session outlasts the page", ready+" && "+locked)
	if kept := browsertest.Evaluate[string](tab, `JSON.stringify(sessionStorage)`); strings.Contains(kept, browsertest.Evaluate[string](tab, token)) {
		t.Errorf("the tab keeps the access token: %s", kept)
	}
	open("users-getMe")
	execute("users-getMe", "200")

	tab.Click(".btn.authorize")
	tab.Click(".auth-btn-wrapper .btn:not(.btn-done)") // Logout
	tab.Click(".auth-btn-wrapper .btn-done")
	tab.Until("the page is signed out", "!"+locked)
	execute("users-getMe", "401")
	if kept := browsertest.Evaluate[int](tab, `sessionStorage.length`); kept != 0 {
		t.Errorf("the tab keeps %s", browsertest.Evaluate[string](tab, `JSON.stringify(sessionStorage)`))
	}
	onlyFailures(t, tab)
}

// expired returns a user's token that has expired. On another Warble than a local run it is a token that is not valid.
func (w *warble) expired(t *testing.T, token string) string {
	t.Helper()
	if w.local == nil {
		return token + "x"
	}
	expired, err := w.local.Expired(token)
	if err != nil {
		t.Fatal(err)
	}
	return expired
}

// arms are who is in which.
const arms = `[...document.querySelectorAll("#people > .card")].map(c => c.querySelector("h2").id + " " + c.querySelector(".arm").textContent).join()`

// outage stops the database: playground and board keep what people have written, say in words what is wrong, and recover by themselves.
func outage(t *testing.T, w *warble, b *dashboard, browser *browsertest.Browser, tab *browsertest.Tab) {
	t.Helper()
	const why = "written while the database is away"
	one, list := browser.Tab(t, browsertest.View{Width: 1280}), browser.Tab(t, browsertest.View{Width: 1280})
	one.Open(b.url + "/experiments/" + w.experiment)
	one.Until("the page shows the pause", isPaused)
	one.Click("[data-verb=resume]")
	one.Press(why)
	if err := w.database.Stop(); err != nil {
		t.Fatal(err)
	}
	const said = `[...document.querySelectorAll(".card .notice:not([hidden])")].filter(n => /cannot answer at the moment/.test(n.textContent)).length`
	people := browsertest.Evaluate[int](tab, `document.querySelectorAll("#people > .card").length`)
	tab.Until("each card says that Warble cannot answer", fmt.Sprintf("%s === %d", said, people))
	const field = `document.querySelector("#people textarea")`
	browsertest.Evaluate[bool](tab, field+`.focus() || true`)
	tab.Press(why)
	browsertest.Evaluate[bool](tab, field+`.form.requestSubmit() || true`)
	tab.Until("the tweet was not sent", `!`+field+`.form.querySelector("button").disabled`)

	const away = `/The database does not answer/.test(document.querySelector("#live").textContent)`
	one.Until("the experiment's page says what is wrong", away)
	list.Open(b.url + "/")
	list.Until("the list says what is wrong, and shows the experiment", away+` && document.querySelector("#live a")`)
	check := func(name string, tab *browsertest.Tab, views ...browsertest.View) {
		t.Helper()
		for _, view := range views {
			tab.Look(view)
			for _, problem := range append(tab.Layout(), tab.Barriers(axe)...) {
				t.Errorf("%s without a database, %s: %s", name, view, problem)
			}
			tab.Screenshot(name + "-outage-" + view.String())
		}
	}
	check("playground", tab, browsertest.Views...)
	check("board-list", list, browsertest.View{Width: 390}, browsertest.View{Width: 1280, Dark: true})
	if n := browsertest.Evaluate[int](tab, `document.querySelectorAll(".tweet").length`); n == 0 {
		t.Error("the tweets are gone from the page")
	}
	if kept := browsertest.Evaluate[string](tab, field+".value"); kept != why {
		t.Errorf("the text of the tweet has become %q", kept)
	}
	if kept := browsertest.Evaluate[string](one, `document.querySelector("#dialog[open] textarea").value`); kept != why {
		t.Errorf("the reason has become %q", kept)
	}
	one.Click("#dialog-go") // steer continues when it can
	check("board", one, browsertest.View{Width: 1280}, browsertest.View{Width: 390, Dark: true})

	w.startDatabase(t)
	tab.Until("the playground recovers by itself", said+" === 0")
	browsertest.Evaluate[bool](tab, field+`.form.requestSubmit() || true`)
	const sent = `[...` + field + `.closest(".card").querySelectorAll(".tweet p")].filter(p => p.textContent === "` + why + `").length`
	tab.Until("the second try sends the tweet", sent+` === 1 && `+field+`.value === ""`)
	tab.Click("#add")
	tab.Until("one more person can come", fmt.Sprintf(`document.querySelectorAll("#people > .card").length === %d`, people+1))
	if n := browsertest.Evaluate[int](tab, sent); n != 1 {
		t.Errorf("the tweet is there %d times", n)
	}
	list.Until("the list recovers by itself", "!"+away)
	one.Until("the experiment goes on", `/Done/.test(document.querySelector("#dialog-log").textContent)`)
	one.Click("#dialog-close")
	one.Until("the page recovers by itself", "!"+away+" && !"+isPaused+` && document.querySelector(".tiles")`)
	for _, page := range []*browsertest.Tab{tab, one, list} {
		onlyFailures(t, page)
	}
}

// reach presses Tab until the element that a script describes has the focus, and checks that people see the focus.
func reach(t *testing.T, tab *browsertest.Tab, what, is string) {
	t.Helper()
	const most = 200
	for range most {
		tab.Press(kb.Tab)
		if browsertest.Evaluate[bool](tab, "Boolean((e => "+is+")(document.activeElement))") {
			seen(t, tab, what)
			return
		}
	}
	t.Fatalf("%d times Tab have not come to %s", most, what)
}

// seen checks that people see the focus.
func seen(t *testing.T, tab *browsertest.Tab, what string) {
	t.Helper()
	if outline := browsertest.Evaluate[string](tab, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Errorf("nobody sees that %s has the focus", what)
	}
}

// keyboard does everything without a mouse.
func keyboard(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	reach(t, tab, "the button that adds a person", `e.id === "add"`)
	const people = `document.querySelectorAll("#people > .card").length`
	for n := 1; n == 1 || browsertest.Evaluate[bool](tab, card(treatment)+" == null"); n++ {
		if n > mostPeople {
			t.Fatalf("%d people are all in the control", mostPeople)
		}
		tab.Press(kb.Enter)
		tab.Until("another person is there", fmt.Sprintf(`%s === %d && [...document.querySelectorAll(".arm")].every(a => a.textContent in {control: 1, treatment: 1}) && !document.querySelector("#add").disabled`, people, n))
		if at := browsertest.Evaluate[string](tab, `document.activeElement.id`); at != "add" {
			t.Fatalf("the focus has gone from the button to %q", at)
		}
	}
	own := func(is string) string { return card(treatment) + ".contains(e) && " + is }
	reach(t, tab, "the text of a tweet", own(`e.tagName === "TEXTAREA"`))
	tab.Press("by keyboard")
	reach(t, tab, "the button that tweets", own(`e.textContent === "Tweet"`))
	tab.Press(kb.Enter)
	tab.Until("the tweet is there", card(treatment)+`.querySelector(".tweet p")?.textContent === "by keyboard"`)
	reach(t, tab, "the button that retweets", own(`/^Retweet/.test(e.getAttribute("aria-label"))`))
	tab.Press(" ")
	tab.Until("the tweet is retweeted", `document.activeElement.matches("[aria-label^=Retweet][aria-pressed=true]")`)
	reach(t, tab, "the heart", own(`e.getAttribute("aria-label") === "Like, 0 likes"`))
	tab.Press(" ")
	tab.Until("the like counts, and the heart keeps the focus", `document.activeElement.matches("[aria-label='Like, 1 like'][aria-pressed=true]") && document.activeElement.textContent === "♥ 1"`)
	seen(t, tab, "the heart that was pressed")
	reach(t, tab, "four stars", own(`/^4 of 5/.test(e.getAttribute("aria-label"))`))
	tab.Press(kb.Enter)
	tab.Until("the feedback is taken", `/Thank you/.test(`+card(treatment)+`.querySelector(".foot").textContent)`)
	reach(t, tab, "the button that signs out", own(`e.textContent === "Sign out"`))
	before := browsertest.Evaluate[int](tab, people)
	tab.Press(kb.Enter)
	tab.Until("the person is gone", fmt.Sprintf("%s === %d", people, before-1))
	reach(t, tab, "the form", `e.id === "enter"`)
	tab.Press(kb.Enter)
	tab.Until("the form is open", `document.querySelector("#dialog").open`)
	tab.Press(kb.Escape)
	tab.Until("the form is closed, and the focus is back", `!document.querySelector("#dialog").open && document.activeElement.id === "enter"`)
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
