//go:build e2e

package main

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"warble/shared/browsertest"
	"warble/shared/function"
)

// TestThePageSendsASecondTextAsASecondTweet uses the contract's page, and checks that the page does not repeat the first request.
func TestThePageSendsASecondTextAsASecondTweet(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var bodies, keys []string
	url, _ := serveFunction(t, function.Routes{"POST /2/tweets": handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies, keys = append(bodies, string(text)), append(keys, r.Header["Idempotency-Key"]...)
		w.WriteHeader(http.StatusCreated)
	})})
	seen := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(bodies) == n
		}
	}
	edge := start(t, config{}, functionEntry{Name: "tweet", URL: url, Routes: []string{"/2/tweets"}})

	tab := browsertest.Open(t).Tab(t, browsertest.View{Width: 1280})
	tab.Open(edge.url + "/docs")
	click := func(selector string) {
		t.Helper()
		tab.Until(selector, `(() => {
			const found = document.querySelector("#operations-tweet-postTweet `+selector+`");
			if (found == null || found.disabled) return false;
			found.click();
			return true;
		})()`)
	}
	click(".opblock-summary-control")
	click(".try-out__btn")
	click(".execute")
	eventually(t, "the first request", seen(1))
	tab.Until("its answer", `document.querySelector("#operations-tweet-postTweet .live-responses-table") != null`)
	// React notices a new text by this event.
	tab.Until("the text", `(() => {
		const field = document.querySelector("#operations-tweet-postTweet textarea.body-param__text");
		if (field == null) return false;
		Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(field, '{"text":"another"}');
		return field.dispatchEvent(new Event("input", {bubbles: true}));
	})()`)
	click(".execute")
	eventually(t, "the second request", seen(2))
	mu.Lock()
	defer mu.Unlock()
	if bodies[0] == bodies[1] || bodies[1] != `{"text":"another"}` || len(keys) > 0 {
		t.Errorf("sent %q, with the keys %q", bodies, keys)
	}
}
