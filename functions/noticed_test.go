package functions_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestAnAnswerThatBreaksTheContractIsFound: without this, TestEveryAnswer would prove nothing.
func TestAnAnswerThatBreaksTheContractIsFound(t *testing.T) {
	t.Parallel()
	const problem = `{"type":"https://warble.dev/problems/unavailable","title":"a","status":503,"detail":"a","instance":"id","errors":[{"message":"a"}]}`
	type exchange struct {
		request string
		status  int
		header  http.Header
		body    string
	}
	good := func(change func(*exchange)) exchange {
		x := exchange{"GET /communities", 200, http.Header{}, `{"data":[{"slug":"gophers","name":"Gophers"}],"meta":{"result_count":1}}`}
		for name, value := range map[string]string{
			"Content-Type": "application/json", "X-Request-Id": "id",
			"x-rate-limit-limit": "9", "x-rate-limit-remaining": "8", "x-rate-limit-reset": "1790000000",
			"RateLimit": `"read";r=8;t=60`, "RateLimit-Policy": `"read";q=9;w=60`,
		} {
			x.header.Set(name, value)
		}
		change(&x)
		return x
	}
	unavailable := func(x *exchange) {
		x.status, x.body = 503, problem
		x.header.Set("Content-Type", "application/problem+json")
		x.header.Set("Retry-After", "1")
	}
	c := loadContract(t)
	check := func(x exchange) error {
		method, path, _ := strings.Cut(x.request, " ")
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		return c.check(r, "", &http.Response{StatusCode: x.status, Header: x.header}, []byte(x.body))
	}
	for _, right := range []func(*exchange){func(*exchange) {}, unavailable} {
		if err := check(good(right)); err != nil {
			t.Error(err)
		}
	}
	unseen := c.unseen()
	for what, want := range map[string]bool{"GET /communities 200": false, "GET /communities 503": false, "GET /communities 429": true, "the header Retry-After": false, "the header Allow": true, "the header ETag": true} {
		if slices.Contains(unseen, what) != want {
			t.Errorf("%s is unseen: %t, want %t", what, !want, want)
		}
	}

	for want, change := range map[string]func(*exchange){
		"GET /2/nothing is not in the contract":        func(x *exchange) { x.request = "GET /2/nothing" },
		"GET /communities 418 is not in the contract":  func(x *exchange) { x.status = 418 },
		"the header X-Secret is not":                   func(x *exchange) { x.header.Set("X-Secret", "a") },
		`header "X-Request-Id" missing`:                func(x *exchange) { x.header.Del("X-Request-Id") },
		`unable to decode header "x-rate-limit-limit"`: func(x *exchange) { x.header.Set("x-rate-limit-limit", "many") },
		`header "RateLimit" doesn't match`:             func(x *exchange) { x.header.Set("RateLimit", "8") },
		"Cache-Control is":                             func(x *exchange) { x.header.Set("Cache-Control", "no-store") },
		"Content-Type":                                 func(x *exchange) { x.header.Set("Content-Type", "text/plain") },
		"extra":                                        func(x *exchange) { x.body = `{"data":[],"meta":{"result_count":0},"extra":1}` },
		"slug":                                         func(x *exchange) { x.body = strings.ReplaceAll(x.body, "gophers", "The Gophers") },
		"the request was accepted": func(x *exchange) {
			x.request = "GET /2/users/x/tweets"
			x.body = `{"data":[],"meta":{"result_count":0}}`
		},
		`header "ETag" missing`:        func(x *exchange) { x.request, x.status, x.body = "GET /2/users/me", 304, "" },
		"there should be no body":      func(x *exchange) { x.request, x.status = "POST /auth/logout", 204 },
		"another status or request id": func(x *exchange) { unavailable(x); x.header.Set("X-Request-Id", "another") },
	} {
		if err := check(good(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint with %q in: %v", want, err)
		}
	}
}
