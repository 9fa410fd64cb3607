//go:build e2e

package e2e_test

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"warble/shared/store"
)

// patience is how long a test waits for an answer. It is longer than the edge's own limit.
const patience = time.Minute

// user is a caller of Warble. Without a token it is not signed in.
type user struct {
	t testing.TB

	id, name, email string
	token           string
	url             string // "" for Warble's own
}

// withURL returns the same user, who calls the process at url.
func (u *user) withURL(url string) *user {
	other := *u
	other.url = url
	return &other
}

const password = "analytical-engine-1843"

// session is the answer of register, login and refresh.
type session struct {
	Data struct {
		ID       string `json:"id"`
		Username string `json:"username"`
	} `json:"data"`
	Token        string `json:"token"`
	RefreshToken string `json:"refresh_token"`
}

// register registers a new user, in a community or, if community is empty, in none. A registration that may
// have been stored without an answer is not repeated; another name is used.
func register(t testing.TB, community string) *user {
	t.Helper()
	var a answer
	for deadline := time.Now().Add(politeness); time.Now().Before(deadline); {
		name := "u" + strings.ToLower(rand.Text()[:12])
		email := name + "@example.org"
		body := object("name", "Ada", "username", name, "email", email, "password", password)
		if community != "" {
			body = object("name", "Ada", "username", name, "email", email, "password", password, "community", community)
		}
		var err error
		if a, err = (&user{t: t}).try("POST", "/auth/register", body); err != nil {
			t.Fatal(err)
		}
		if !wait(t, a) {
			s := decode[session](t, a, http.StatusCreated)
			return &user{t: t, id: s.Data.ID, name: name, email: email, token: s.Token}
		}
	}
	t.Fatalf("nobody could register for %s: %d %s", politeness, a.status, a.body)
	return nil
}

// anyCommunity returns the slug of a community, or "" if there is none.
func anyCommunity(t testing.TB) string {
	t.Helper()
	list := decode[struct {
		Data []struct {
			Slug string `json:"slug"`
		} `json:"data"`
	}](t, (&user{t: t}).do("GET", "/communities", ""), http.StatusOK)
	if len(list.Data) == 0 {
		return ""
	}
	return list.Data[0].Slug
}

// answer is an HTTP answer.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// politeness is how long a test waits for a rate limit, if Warble has the limits of a public API.
const politeness = 2 * time.Minute

// do sends a request, and fails the test if there is no answer or a 500. A body that is not empty is sent as JSON.
// headers are names and values in turn. After a 429, or a 503 of a busy machine, do waits and tries again.
func (u *user) do(method, path, body string, headers ...string) answer {
	u.t.Helper()
	a, err := u.try(method, path, body, headers...)
	for deadline := time.Now().Add(politeness); err == nil && time.Now().Before(deadline) && wait(u.t, a); {
		a, err = u.try(method, path, body, headers...)
	}
	if err != nil || a.status == http.StatusInternalServerError {
		u.t.Errorf("%s %.200s %.200s: %d %s %v", method, path, body, a.status, a.body, err)
	}
	return a
}

// wait waits as long as the answer asks, and reports that the request must be sent again: after a 429, or a 503 of a
// busy machine.
func wait(t testing.TB, a answer) bool {
	t.Helper()
	if a.status != http.StatusTooManyRequests && !outOfTime(a) {
		return false
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil {
		t.Errorf("a %d with Retry-After %q", a.status, a.header.Get("Retry-After"))
		return false
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	return true
}

// upstreamTimeout is how long the edge waits for a function to start and to answer: see UPSTREAM_TIMEOUT.
const upstreamTimeout = 15 * time.Second

// outOfTime reports whether a 503 came because all time was used: a call of the database has store.CallTimeout,
// and a function that starts has upstreamTimeout. Then the machine is only busy.
func outOfTime(a answer) bool {
	limit := upstreamTimeout
	if a.header.Get("X-Revision") != "" {
		limit = store.CallTimeout
	}
	return a.status == http.StatusServiceUnavailable && a.took >= limit
}

// try sends a request once, and returns any result.
func (u *user) try(method, path, body string, headers ...string) (answer, error) {
	request, err := http.NewRequestWithContext(u.t.Context(), method, cmp.Or(u.url, warble.url)+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Host = warble.host
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if u.token != "" {
		request.Header.Set("Authorization", "Bearer "+u.token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text), time.Since(start)}, err
}

// post posts a tweet and returns its id.
func (u *user) post(text string, headers ...string) string {
	u.t.Helper()
	return decode[single](u.t, u.do("POST", "/2/tweets", object("text", text), headers...), http.StatusCreated).Data.ID
}

// path returns a path below the user.
func (u *user) path(rest string) string { return "/2/users/" + u.id + rest }

// likes reports whether the user has the feature likes.
func (u *user) likes() bool {
	u.t.Helper()
	switch a := u.do("GET", u.path("/liked_tweets"), ""); {
	case a.status == http.StatusOK:
		return true
	case a.status != http.StatusNotFound || !strings.Contains(a.body, "/feature-not-open"):
		u.t.Errorf("likes are neither open nor closed: %d %s", a.status, a.body)
	}
	return false
}

// tweet is a tweet in an answer.
type tweet struct {
	ID               string `json:"id"`
	Text             string `json:"text"`
	AuthorID         string `json:"author_id"`
	ReferencedTweets []struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"referenced_tweets"`
	PublicMetrics struct {
		RetweetCount int `json:"retweet_count"`
		LikeCount    int `json:"like_count"`
	} `json:"public_metrics"`
}

type single struct {
	Data tweet `json:"data"`
}

type list struct {
	Data     []tweet `json:"data"`
	Includes struct {
		Users []struct {
			ID       string `json:"id"`
			Username string `json:"username"`
		} `json:"users"`
		Tweets []tweet `json:"tweets"`
	} `json:"includes"`
	Errors []struct {
		Value string `json:"value"`
	} `json:"errors"`
	Meta struct {
		ResultCount   int    `json:"result_count"`
		NextToken     string `json:"next_token"`
		PreviousToken string `json:"previous_token"`
	} `json:"meta"`
}

func (l list) ids() (ids []string) {
	for _, t := range l.Data {
		ids = append(ids, t.ID)
	}
	return ids
}

// get reads a list.
func (u *user) get(path string) list {
	u.t.Helper()
	return decode[list](u.t, u.do("GET", path, ""), http.StatusOK)
}

// all reads all pages of a list.
func (u *user) all(path string) (ids []string) {
	u.t.Helper()
	page := u.get(path + "?max_results=100")
	for ; page.Meta.NextToken != ""; page = u.get(path + "?max_results=100&pagination_token=" + page.Meta.NextToken) {
		ids = append(ids, page.ids()...)
	}
	return append(ids, page.ids()...)
}

// decode checks the status of an answer, and decodes it.
func decode[T any](t testing.TB, a answer, status int) (value T) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &value); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return value
}

// problemOf checks an answer that must be a problem, and returns its mistake, or "" if it is well-formed.
func problemOf(a answer) string {
	var p struct {
		Type, Title, Detail, Instance string
		Status                        int
		Errors                        []struct{ Message string }
	}
	switch err := json.Unmarshal([]byte(a.body), &p); {
	case err != nil:
		return err.Error()
	case a.header.Get("Content-Type") != "application/problem+json":
		return "its type is " + a.header.Get("Content-Type")
	case p.Status != a.status || p.Type == "" || p.Title == "" || p.Detail == "" || len(p.Errors) == 0 || p.Errors[0].Message == "":
		return "a member is missing"
	case p.Instance == "" || p.Instance != a.header.Get("X-Request-Id"):
		return fmt.Sprintf("instance %q is not the request's id %q", p.Instance, a.header.Get("X-Request-Id"))
	}
	return ""
}

// object returns a JSON object of strings, from names and values in turn.
func object(members ...string) string {
	o := make(map[string]string)
	for i := 0; i < len(members); i += 2 {
		o[members[i]] = members[i+1]
	}
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(text)
}
