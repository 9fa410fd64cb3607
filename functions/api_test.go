package functions_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// api calls one edge, and checks its answers against the contract.
type api struct {
	*contract

	t   *testing.T
	url string
}

// through returns the same API at another edge.
func (a *api) through(url string) *api { return &api{a.contract, a.t, url} }

// send sends a request ("GET /2/users/me") with a token, unless the token is empty, and headers, as names and values in turn. If
// the request is not an operation of the contract, the caller must check the answer.
func (a *api) send(token, request, body string, headers ...string) (*http.Request, *http.Response, []byte) {
	a.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return r, answer, text
}

// reply is an answer that conforms to the contract.
type reply struct {
	http.Header

	body []byte
}

// call is send for an operation, and checks the status.
func (a *api) call(want int, token, request, body string, headers ...string) reply {
	a.t.Helper()
	r, answer, text := a.send(token, request, body, headers...)
	if answer.StatusCode != want {
		a.t.Errorf("%s %.200s: %d %s, want %d", request, body, answer.StatusCode, text, want)
	}
	if err := a.check(r, body, answer, text); err != nil {
		a.t.Error(err)
	}
	return reply{answer.Header, text}
}

// replayed sends a request twice with one Idempotency-Key.
func (a *api) replayed(want int, token, request, body string) {
	a.t.Helper()
	first, again := a.call(want, token, request, body, "Idempotency-Key", "k"), a.call(want, token, request, body, "Idempotency-Key", "k")
	if string(first.body) != string(again.body) || first.Get("Idempotency-Replayed") != "" || again.Get("Idempotency-Replayed") != "true" {
		a.t.Errorf("%s: %s, and with the same key %s", request, first.body, again.body)
	}
}

func decode[T any](a *api, r reply) (value T) {
	a.t.Helper()
	if err := json.Unmarshal(r.body, &value); err != nil {
		a.t.Fatalf("%v: %s", err, r.body)
	}
	return value
}

// nowhere is an address where nothing listens.
const nowhere = "http://127.0.0.1:1"

// routesTo writes a routes file with a function for every manifest. All functions, and the arms of the experiments, have the same
// URL.
func routesTo(t *testing.T, url string, experiments ...experiment.Rules) string {
	t.Helper()
	type function struct {
		Name   string   `json:"name"`
		URL    string   `json:"url"`
		Routes []string `json:"routes"`
	}
	side := experiment.Side{Host: strings.TrimPrefix(url, "http://"), Revision: "arm"}
	for i, e := range experiments {
		experiments[i].Reach = make(map[string]experiment.Reach)
		for _, service := range e.Services {
			experiments[i].Reach[service] = experiment.Reach{Control: side, Treatment: side}
		}
	}
	services, err := manifest.ReadAll("../knative")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Functions   []function         `json:"functions"`
		Experiments []experiment.Rules `json:"experiments"`
	}
	file.Experiments = experiments
	for _, service := range services {
		file.Functions = append(file.Functions, function{service.Name(), url, service.Routes()})
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
