package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"

	"warble/shared/function"
	"warble/shared/problem"
)

// TestNoPathReachesAnotherFunction checks that a path reaches only the function of its route, however the path is written, and that
// no path is redirected.
func TestNoPathReachesAnotherFunction(t *testing.T) {
	t.Parallel()
	named := func(name string) functionEntry {
		url, _ := serveFunction(t, function.Routes{"GET /{rest...}": handlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name+" "+r.RequestURI) })})
		return functionEntry{Name: name, URL: url}
	}
	tweet, users, login := named("tweet"), named("users"), named("login")
	tweet.Routes, users.Routes, login.Routes = []string{"/2/tweets", "/2/tweets/{id}"}, []string{"/2/users/{id}", "/2/users/{id}/{$}"}, []string{"/auth/"}
	edge := start(t, config{}, tweet, users, login)
	tests := map[string]string{ // target -> answer, or "" for a 404
		"/2/tweets":                       "tweet /2/tweets",
		"/2/tweets/1":                     "tweet /2/tweets/1",
		"/2/tweets/1?a=/../../auth/":      "tweet /2/tweets/1?a=/../../auth/",
		"/2/tweets/a%2F..%2Fb":            "", // has dots after decoding
		"/2/tweets/a%2Fb":                 "tweet /2/tweets/a%2Fb",
		"/2/%74weets/1":                   "tweet /2/%74weets/1",
		"/2/users/1/":                     "users /2/users/1/",
		"/auth/login":                     "login /auth/login",
		"http://elsewhere/2/tweets":       "tweet /2/tweets",
		"http://elsewhere:80//2/tweets":   "",
		"http:/2/tweets":                  "tweet /2/tweets", // the URL has no host, but a path
		"http:opaque":                     "",
		"/auth":                           "", // which ServeMux would redirect to /auth/
		"/2/tweets/":                      "",
		"/2/tweets/1/":                    "",
		"//2/tweets":                      "",
		"/2//tweets":                      "",
		"/2/./tweets":                     "",
		"/2/tweets/../users/1":            "",
		"/2/tweets/%2e%2e/users/1":        "",
		"/2/tweets/..%2f..%2fauth%2fx":    "",
		"/2/tweets/%2E":                   "",
		"/2/tweets/.":                     "",
		"/2%2Ftweets":                     "",
		"/2/tweets/%2F":                   "",
		"/..":                             "",
		"/%2e%2e/2/tweets":                "",
		"/2/TWEETS":                       "",
		"*":                               "",
		"//elsewhere/2/tweets":            "",
		"http://elsewhere":                "",
		"/healthz/../2/tweets":            "",
		"/2/tweets/%00":                   "tweet /2/tweets/%00",
		"/2/tweets/1;a=b":                 "tweet /2/tweets/1;a=b",
		"/2/tweets\\..\\auth/x":           "",
		"/2/tweets/%5C..%5C..%5Cauth%5Cx": "tweet /2/tweets/%5C..%5C..%5Cauth%5Cx",
	}
	for target, want := range tests {
		connection := dial(t, edge.url)
		if _, err := fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n", target); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		a := answer{response, string(text)}
		if want == "" {
			wantProblem(t, a, problem.NotFound)
		} else if a.StatusCode != http.StatusOK || a.body != want {
			t.Errorf("%s: %s %q, want %q", target, a.Status, a.body, want)
		}
	}
}
