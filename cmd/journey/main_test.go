package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"

	"warble/shared/apitest"
)

var warble *apitest.Local

func TestMain(m *testing.M) {
	code := 1
	var err error
	if warble, err = apitest.StartLocal(context.Background()); err == nil {
		code = m.Run()
		err = warble.Stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "journey:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// through puts a proxy before the local run, which adds a revision's name to each answer, as a function on Knative does. change may
// change the answer.
func through(t *testing.T, change func(r *http.Response) error) *journey {
	t.Helper()
	to, err := url.Parse(warble.URL)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("X-Revision", "all-00002")
			return change(r)
		},
	})
	t.Cleanup(server.Close)
	return &journey{url: server.URL, revisions: []string{"none-00001", "all-00002"}, client: server.Client(), out: t.Output()}
}

// The journey succeeds at a Warble that works, with or without likes. Each fault is named.
func TestTheJourneyNamesEachFault(t *testing.T) {
	t.Parallel()
	at := func(method, path string) func(*http.Response) bool {
		return func(r *http.Response) bool {
			return r.Request.Method == method && strings.HasSuffix(r.Request.URL.Path, path)
		}
	}
	says := func(status int, body string) func(*http.Response) {
		return func(r *http.Response) {
			r.StatusCode, r.Body, r.ContentLength = status, io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Del("Content-Length")
		}
	}
	for name, tt := range map[string]struct {
		where func(*http.Response) bool
		what  func(*http.Response)
		err   string
	}{
		"nothing":               {where: func(*http.Response) bool { return false }},
		"a problem":             {at("POST", "/2/tweets"), says(500, `{"type":"about:blank","detail":"something is wrong"}`), "POST /2/tweets: 500 something is wrong"},
		"not a problem in JSON": {at("POST", "/auth/login"), says(502, `bad gateway`), "POST /auth/login: 502 bad gateway"},
		"another's token":       {at("GET", "/auth/validate"), says(200, `{"sub":"1"}`), "GET /auth/validate: the token belongs to user 1: expected "},
		"an empty timeline":     {at("GET", "/tweets"), says(200, `{"data":[]}`), "expected one tweet, the retweet"},
		"an old revision":       {at("GET", "/2/users/me"), func(r *http.Response) { r.Header.Set("X-Revision", "users-00001") }, `GET /2/users/me: the revision "users-00001" answered: expected one of none-00001, all-00002`},
		"likes that fail":       {at("POST", "/likes"), says(404, `{"type":"/not-found","detail":"no"}`), "/likes: 404 no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := through(t, func(r *http.Response) error {
				if tt.where(r) {
					tt.what(r)
				}
				return nil
			})
			err := j.run(t.Context())
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}
