package apitest

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/token"
)

// User is someone who calls the API. A user without a Token is a stranger.
type User struct {
	ID    int64
	Name  string // the username
	Token string

	assignment string // the assertion that the edge would make
	url        string // of the function, which is the API's unless At says otherwise
	api        *API
	t          testing.TB
}

// In returns the same user for another test, for example for the test of a fuzz target.
func (u User) In(t testing.TB) User {
	u.t = t
	return u
}

// Assigned returns the same user, whose requests have an assignment as if the edge had passed them on.
func (u User) Assigned(a experiment.Assignment) User {
	u.assignment = a.String()
	return u
}

// At returns the same user, who calls another process of the function.
func (u User) At(p *Process) User {
	u.url = p.URL
	return u
}

// Path returns a path below the user's own, for example u.Path("/retweets").
func (u User) Path(rest string) string { return "/2/users/" + strconv.FormatInt(u.ID, 10) + rest }

// Stranger returns a user without a token.
func (a *API) Stranger() User { return User{url: a.URL, api: a, t: a.t} }

// User registers a user in a community, or in none if it is empty.
func (a *API) User(username, community string) User {
	a.t.Helper()
	u := User{ID: 1000 + a.users.Add(1), Name: username, url: a.URL, api: a, t: a.t}
	a.SQL(`insert into users (id, username, name, community) values ($1, $2, $2, nullif($3, ''))`, u.ID, username, community)
	var err error
	u.Token, _, err = a.issuer.Issue(token.Subject{UserID: u.ID, Username: username, Community: community})
	if err != nil {
		a.t.Fatal(err)
	}
	return u
}

// Answer is the answer to a request.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Do calls the API. A body that is not empty is sent as JSON. headers has names and values in turn.
func (u User) Do(method, path, body string, headers ...string) Answer {
	u.t.Helper()
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.url+path, strings.NewReader(body))
	if err != nil {
		u.t.Errorf("%s %s: %v", method, path, err)
		return Answer{}
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if u.Token != "" {
		request.Header.Set("Authorization", "Bearer "+u.Token)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	if u.assignment != "" {
		request.Header.Set(experiment.Header, u.assignment)
		request.Header.Set(function.HeaderClient, "192.0.2.1")
		function.Sign(request, function.TestKey, time.Now())
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		u.t.Errorf("%s %s: %v", method, path, err)
		return Answer{}
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusInternalServerError {
		u.t.Errorf("%s %s %q: %d %s %v", method, path, body, response.StatusCode, text, err)
	}
	return Answer{response.StatusCode, response.Header, string(text)}
}

// Get requests a path and decodes the answer, which must be a 200.
func Get[T any](u User, path string) T {
	u.t.Helper()
	return Decode[T](u.t, u.Do(http.MethodGet, path, ""), http.StatusOK)
}

// Decode decodes an answer that must have the status.
func Decode[T any](t testing.TB, a Answer, status int) T {
	t.Helper()
	var value T
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if err := json.Unmarshal([]byte(a.Body), &value); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
	return value
}

// NeedsToken checks that each request ("GET /2/users/me") is answered with a 401 problem in four cases: without a token, with a text
// that is not a token, with a token signed by another key, and with an expired token.
func (a *API) NeedsToken(requests ...string) {
	a.t.Helper()
	u := a.User("needstoken", "")
	signature := strings.LastIndex(u.Token, ".") + 1
	bearers := map[string]string{
		"none":    "",
		"no JWT":  "Bearer x",
		"basic":   "Basic " + u.Token,
		"altered": "Bearer " + u.Token[:signature] + strings.Repeat("A", len(u.Token)-signature),
		"expired": "Bearer " + a.expired(u),
	}
	for _, request := range requests {
		method, path, _ := strings.Cut(request, " ")
		for name, bearer := range bearers {
			answer := a.Stranger().Do(method, path, "", "Authorization", bearer)
			if answer.Status != http.StatusUnauthorized || answer.Header.Get("WWW-Authenticate") == "" {
				a.t.Errorf("%s, token: %s: %d %s", request, name, answer.Status, answer.Body)
			}
		}
		if answer := u.Do(method, path, ""); answer.Status == http.StatusUnauthorized {
			a.t.Errorf("%s with a good token: %s", request, answer.Body)
		}
	}
}

// expired returns the user's token with times in the past and a valid signature.
func (a *API) expired(u User) string {
	a.t.Helper()
	token, err := expired(u.Token, a.file("private.pem"))
	if err != nil {
		a.t.Fatal(err)
	}
	return token
}

// expired returns a token that expired an hour ago, signed with the key in a file.
func expired(token, privateKey string) (string, error) {
	claims := jwt.MapClaims{}
	good, _, err := jwt.NewParser().ParseUnverified(token, claims)
	if err != nil {
		return "", err
	}
	claims["iat"], claims["exp"] = time.Now().Add(-2*time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	text, err := os.ReadFile(privateKey)
	if err != nil {
		return "", err
	}
	key, err := jwt.ParseEdPrivateKeyFromPEM(text)
	if err != nil {
		return "", err
	}
	late := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	late.Header = good.Header
	return late.SignedString(key)
}
