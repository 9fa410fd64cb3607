//go:build e2e

package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"warble/shared/apitest"
	"warble/shared/browsertest"
)

// TestThePagesOfMail: a user follows the links of mail, from the inbox to the playground and back.
func TestThePagesOfMail(t *testing.T) {
	t.Parallel()
	const email, old, next = "ada@example.org", "analytical-engine-1843", "an-otter-that-sings"
	office := apitest.OpenPostOffice(t)
	local, err := apitest.StartLocal(t.Context(), "SMTP_URL="+office.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Stop(); err != nil {
			t.Errorf("local run: %v\n%s", err, local.Log())
		}
	})
	call := func(want int, path, body string) {
		t.Helper()
		answer, err := http.Post(local.URL+path, "application/json", strings.NewReader(body)) //nolint:noctx // the test's own server
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Fatalf("%s: %s, want %d", path, answer.Status, want)
		}
	}
	link := func(kind string) string {
		t.Helper()
		page, kind, token := office.Await(t, email, kind).Link()
		if page != local.URL+"/confirm" {
			t.Fatalf("the link leads to %q", page)
		}
		return page + "#" + kind + "=" + token
	}
	call(http.StatusCreated, "/auth/register", fmt.Sprintf(`{"name": "Ada", "email": %q, "password": %q}`, email, old))

	for _, view := range browsertest.Views {
		t.Run(view.String(), func(t *testing.T) {
			tab := browsertest.Open(t).Tab(t, view)
			for name, hash := range map[string]string{"ask": "", "verify": "#verify=x", "reset": "#reset=x"} {
				tab.Open("about:blank") // the page reads its address when it loads
				tab.Open(local.URL + "/confirm" + hash)
				tab.Until("the page shows what it is for", `[...document.querySelectorAll("form")].filter(f => !f.hidden).length === 1`)
				for _, bad := range append(tab.Layout(), tab.Barriers(axe)...) {
					t.Errorf("/confirm%s: %s", hash, bad)
				}
				tab.Screenshot("confirm-" + name + "-" + view.String())
			}
			if said := tab.Complaints(); len(said) > 0 {
				t.Errorf("the page complains: %q", said)
			}
			if urls := tab.Elsewhere(local.URL); len(urls) > 0 {
				t.Errorf("it asks others for %q", urls)
			}
		})
	}

	tab := browsertest.Open(t).Tab(t, browsertest.Views[0])
	shows := func(form, title string) {
		t.Helper()
		tab.Until("the page is for "+title, fmt.Sprintf(`document.querySelector("#%s")?.hidden === false && document.querySelector("h1").textContent === %q`, form, title))
	}
	says := func(element, text string) {
		t.Helper()
		tab.Until("the page says "+text, fmt.Sprintf(`document.querySelector(%q)?.hidden === false && document.querySelector(%[1]q).textContent.includes(%q)`, element, text))
	}

	// Programs that scan mail open its links, so only the button uses a token.
	verify := link("verify")
	for _, want := range []struct{ element, text string }{{"#done", "Your email address is verified."}, {"#problem", "token is not valid"}} {
		tab.Open("about:blank")
		before := len(tab.Requests())
		tab.Open(verify)
		shows("verify", "Verify your email address")
		for _, url := range tab.Requests()[before:] {
			if strings.Contains(url, "/auth/") {
				t.Errorf("the page has asked for %s before anybody pressed the button", url)
			}
		}
		if left := browsertest.Evaluate[string](tab, `location.hash`); left != "" {
			t.Errorf("the token stays in the address: %s", left)
		}
		tab.Click("#verify button")
		says(want.element, want.text)
	}

	// A user who forgot the password comes from the playground's form.
	tab.Open(local.URL + "/")
	tab.Click("#enter")
	tab.Click("#forgot a")
	shows("ask", "Forgot your password?")
	fill(tab, `#ask input[name="email"]`, email)
	tab.Click("#ask button")
	says("#done", "a mail is on its way")
	tab.Open("about:blank")
	tab.Open(link("reset"))
	shows("reset", "Choose a new password")
	fill(tab, `#reset input[name="new"]`, "short")
	tab.Click("#reset button")
	says("#problem", "8")
	browsertest.Evaluate[bool](tab, `document.querySelector("#reset").reset() || true`)
	fill(tab, `#reset input[name="new"]`, next)
	tab.Click("#reset button")
	says("#done", "Your password is changed.")
	call(http.StatusUnauthorized, "/auth/login", fmt.Sprintf(`{"email": %q, "password": %q}`, email, old))

	// The user signs in with the new password. The address is verified, because the reset's mail was read.
	tab.Open(local.URL + "/")
	signIn(tab, email, next)
	tab.Until("the person is there", `document.querySelectorAll("#people > .card").length === 1`)
	const button = `[...document.querySelectorAll("#people button")].find(b => b.textContent === "Verify my address")`
	tab.Until("they may verify their address", `(`+button+`)?.hidden === false`)
	browsertest.Evaluate[bool](tab, `(`+button+`).click() || true`)
	tab.Until("they are told that it is verified", `document.querySelector("#people .notice").textContent.includes("is verified")`) // hidden again soon

	// A new user asks for the mail again, and its link works.
	tab.Click("#enter")
	tab.Click("#form-other")
	tab.Until("there is no password to forget", `document.querySelector("#forgot").hidden`)
	fill(tab, `#form input[name="name"]`, "Grace")
	fill(tab, `#form input[name="email"]`, "grace@example.org")
	fill(tab, `#form input[name="password"]`, next)
	tab.Click("#form-go")
	tab.Until("another person is there", `document.querySelectorAll("#people > .card").length === 2`)
	office.Await(t, "grace@example.org", "verify")
	browsertest.Evaluate[bool](tab, `[...document.querySelectorAll("#people button")].filter(b => b.textContent === "Verify my address")[1].click() || true`)
	tab.Until("a mail is on its way", `[...document.querySelectorAll("#people [role=status]")].some(s => s.textContent === "A mail with a link is on its way.")`)
}
