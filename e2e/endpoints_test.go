//go:build e2e

package e2e_test

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"warble/functions"
	"warble/shared/manifest"
)

// endpoint is one method of one route, and the answer to a user who requests data of another user, ada.
type endpoint struct {
	method string
	route  string // as in a manifest's annotation and in openapi.yaml
	query  string
	body   string
	other  int // the status that the other user gets

	public     bool // gives the same answer without a token
	noDatabase bool // answers while PostgreSQL is down
	likes      bool // needs the feature likes; 404 for users without it
}

// endpoints are all endpoints; TestEveryEndpointIsListed checks this. {id} is ada's id or, in /2/tweets, the id of one of her tweets.
var endpoints = []endpoint{
	{method: "POST", route: "/auth/register", body: `{"name":"New","email":"{unique}@example.org","password":"` + password + `"}`, other: 201, public: true},
	{method: "POST", route: "/auth/login", body: `{"email":"{email}","password":"` + password + `"}`, other: 200, public: true},
	{method: "POST", route: "/auth/refresh", body: `{"refresh_token":"{nobodys}"}`, other: 401, public: true},
	{method: "POST", route: "/auth/logout", body: `{"refresh_token":"{nobodys}"}`, other: 204, public: true},
	{method: "PUT", route: "/auth/password", body: `{"current":"not this one","new":"` + password + `"}`, other: 403},
	{method: "GET", route: "/auth/sessions", other: 200},
	{method: "DELETE", route: "/auth/sessions", other: 204},
	{method: "DELETE", route: "/auth/sessions/{id}", other: 404},
	{method: "GET", route: "/auth/export", other: 200},
	{method: "DELETE", route: "/auth/account", body: `{"password":"not this one"}`, other: 403},
	{method: "POST", route: "/auth/verify-email", body: `{"token":"{nobodys}"}`, other: 422, public: true},
	{method: "POST", route: "/auth/verify-email/resend", other: 202},
	{method: "POST", route: "/auth/password-reset", body: `{"email":"{unique}@example.org"}`, other: 202, public: true},
	{method: "POST", route: "/auth/password-reset/confirm", body: `{"token":"{nobodys}","new":"` + password + `"}`, other: 422, public: true},
	{method: "GET", route: "/auth/validate", other: 200, noDatabase: true},
	{method: "POST", route: "/auth/validate", other: 200, noDatabase: true},
	{method: "GET", route: "/.well-known/jwks.json", other: 200, public: true, noDatabase: true},
	{method: "GET", route: "/communities", other: 200, public: true},
	{method: "GET", route: "/", other: 200, public: true, noDatabase: true},
	{method: "GET", route: "/confirm", other: 200, public: true, noDatabase: true},
	{method: "GET", route: "/assets/{file}", other: 200, public: true, noDatabase: true},
	{method: "GET", route: "/openapi.yaml", other: 200, public: true, noDatabase: true},
	{method: "GET", route: "/docs", other: 200, public: true, noDatabase: true},

	{method: "GET", route: "/2/users/me", other: 200},
	{method: "GET", route: "/2/users/{id}", other: 200},
	{method: "GET", route: "/2/users", query: "?ids={user}", other: 200},
	{method: "GET", route: "/2/users/by", query: "?usernames={username}", other: 200},
	{method: "GET", route: "/2/users/by/username/{username}", other: 200},
	{method: "GET", route: "/2/users/{id}/tweets", other: 200},
	{method: "GET", route: "/2/users/{id}/timelines/reverse_chronological", other: 403},

	{method: "POST", route: "/2/tweets", body: `{"text":"mine"}`, other: 201},
	{method: "GET", route: "/2/tweets", query: "?ids={tweet}", other: 200},
	{method: "GET", route: "/2/tweets/{id}", other: 200},
	{method: "DELETE", route: "/2/tweets/{id}", other: 403},
	{method: "GET", route: "/2/tweets/{id}/retweeted_by", other: 200},
	{method: "GET", route: "/2/tweets/{id}/retweets", other: 200},
	{method: "POST", route: "/2/users/{id}/retweets", body: `{"tweet_id":"{tweet}"}`, other: 403},
	{method: "DELETE", route: "/2/users/{id}/retweets/{source_tweet_id}", other: 403},

	{method: "POST", route: "/2/users/{id}/likes", body: `{"tweet_id":"{tweet}"}`, other: 403, likes: true},
	{method: "DELETE", route: "/2/users/{id}/likes/{tweet_id}", other: 403, likes: true},
	{method: "GET", route: "/2/tweets/{id}/liking_users", other: 200, likes: true},
	{method: "GET", route: "/2/users/{id}/liked_tweets", other: 200, likes: true},

	{method: "POST", route: "/feedback", body: `{"score":4}`, other: 201},
}

// name returns the endpoint's name in the style of openapi.yaml.
func (e endpoint) name() string { return e.method + " " + e.route }

// about returns the path and the body of a request for a user and one of their tweets.
func (e endpoint) about(u *user, tweet string) (path, body string) {
	id := u.id
	if strings.HasPrefix(e.route, "/2/tweets/") {
		id = tweet
	}
	fill := strings.NewReplacer("{id}", id, "{user}", u.id, "{username}", u.name, "{email}", u.email, "{tweet}", tweet, "{source_tweet_id}", tweet, "{tweet_id}", tweet,
		"{file}", "app.js", "{unique}", rand.Text(), "{nobodys}", strings.Repeat("A", 43))
	return fill.Replace(e.route + e.query), fill.Replace(e.body)
}

func TestEveryEndpointIsListed(t *testing.T) {
	t.Parallel()
	listed := func(method, route string) bool {
		return slices.ContainsFunc(endpoints, func(e endpoint) bool { return (method == "" || e.method == method) && e.route == route })
	}
	services, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		for _, route := range service.Routes() {
			if !listed("", strings.TrimSuffix(route, "{$}")) {
				t.Errorf("%s of %s is not in the table of endpoints", route, service.Name())
			}
		}
	}
	var contract struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := yaml.Unmarshal(functions.OpenAPI, &contract); err != nil {
		t.Fatal(err)
	}
	for path, item := range contract.Paths {
		for _, method := range []string{"get", "head", "post", "put", "patch", "delete"} {
			if _, there := item[method]; there && path != "/healthz" && path != "/readyz" && !listed(strings.ToUpper(method), path) {
				t.Errorf("%s %s of the contract is not in the table of endpoints", method, path)
			}
		}
	}
}

// Without a valid token every request is refused, and with one nobody gets another user's data.
func TestAuthorisation(t *testing.T) {
	t.Parallel()
	ada, bob := register(t, ""), register(t, "")
	tweet := ada.post("ada's")
	state := func() (text string) {
		t.Helper()
		for _, path := range []string{"/2/users/me", ada.path("/tweets"), "/2/tweets/" + tweet, "/2/tweets/" + tweet + "/retweeted_by"} {
			text += ada.do("GET", path, "").body
		}
		return text
	}
	eventually(t, "her tweet settles", listLimit, func() bool { // until then newest_id may differ between answers
		return strings.Contains(ada.do("GET", ada.path("/tweets"), "").body, `"newest_id":"`+tweet)
	})
	before, open := state(), bob.likes()
	signature := strings.LastIndex(bob.token, ".") + 1
	bad := map[string]string{
		"none":              "",
		"no JWT":            "Bearer x",
		"not a bearer":      "Basic " + bob.token,
		"altered signature": "Bearer " + bob.token[:signature] + strings.Repeat("A", len(bob.token)-signature),
		"no signature":      "Bearer " + bob.token[:signature],
		"no algorithm":      "Bearer eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + strings.Split(bob.token, ".")[1] + ".",
	}
	for _, e := range endpoints {
		if e.likes && !open {
			e.other = http.StatusNotFound
		}
		path, body := e.about(ada, tweet)
		if a := bob.do(e.method, path, body); a.status != e.other || a.status >= 400 && problemOf(a) != "" {
			t.Errorf("%s, of another user: %d %s %s, want %d", e.name(), a.status, a.body, problemOf(a), e.other)
		}
		for name, header := range bad {
			path, body := e.about(ada, tweet)
			refused(t, e, name, (&user{t: t}).do(e.method, path, body, "Authorization", header))
		}
	}
	if after := state(); after != before {
		t.Errorf("ada's data was\n%s\nand is\n%s", before, after)
	}
}

func TestAnExpiredTokenIsNone(t *testing.T) {
	run := processes(t)
	t.Parallel()
	ada := register(t, "")
	tweet := ada.post("ada's")
	late, err := run.Expired(ada.token)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		path, body := e.about(ada, tweet)
		refused(t, e, "expired", (&user{t: t}).do(e.method, path, body, "Authorization", "Bearer "+late))
	}
	if a := ada.do("GET", "/2/tweets/"+tweet, ""); a.status != http.StatusOK {
		t.Errorf("the tweet is gone: %d %s", a.status, a.body)
	}
}

// refused checks the answer to a request without a good token.
func refused(t *testing.T, e endpoint, token string, a answer) {
	t.Helper()
	switch {
	case e.public && a.status != e.other:
		t.Errorf("%s is public, token: %s: %d %s, want %d", e.name(), token, a.status, a.body, e.other)
	case !e.public && (a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") == "" || problemOf(a) != ""):
		t.Errorf("%s, token: %s: %d %s %s, want 401", e.name(), token, a.status, a.body, problemOf(a))
	}
}
