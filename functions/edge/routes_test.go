package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"warble/shared/problem"
)

func TestParseRoutesNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const shape = `expected {"functions": [{name, url, tags, starting, routes, streams, guest}], "experiments": []}: `
	for text, want := range map[string]string{
		``:                                     shape + "EOF",
		`[]`:                                   shape + "json: cannot unmarshal array",
		`{`:                                    shape + "unexpected EOF",
		`null`:                                 shape + "functions is missing",
		`{}`:                                   shape + "functions is missing",
		`{"functions": []} {}`:                 shape + "text follows the JSON object",
		`{"functions": [{"nmae": "a"}]}`:       shape + `json: unknown field "nmae"`,
		`{"functions": [{"name": 7}]}`:         shape + "json: cannot unmarshal number",
		`{"functions": [{"url": "http://a"}]}`: `function "" at "http://a": expected a name and a URL such as http://host:port`,
		`{"functions": [{"name": "a"}]}`:       `function "a" at "": expected a name and a URL such as http://host:port`,
		`{"functions": [{"name": "a", "url": "https://a"}]}`:                                  `function "a" at "https://a": expected`,
		`{"functions": [{"name": "a", "url": "http://a/path"}]}`:                              `function "a" at "http://a/path": expected`,
		`{"functions": [{"name": "a", "url": "http://u:p@a"}]}`:                               `expected a name and a URL`,
		`{"functions": [{"name": "a", "url": "http://:80"}]}`:                                 `function "a" at "http://:80": expected`,
		`{"functions": [{"name": "a", "url": "http://a:x"}]}`:                                 `function "a" at "http://a:x": expected`,
		`{"functions": [{"name": "a", "url": "http://a"}, {"name": "a", "url": "http://b"}]}`: `function "a" appears twice`,
		`{"functions": [{"name": "a", "url": "http://a", "tags": {"x": "b"}}]}`:               `function "a", tag "x" at "b": expected a name and a URL`,
		`{"functions": [{"name": "a", "url": "http://a", "tags": {"": "http://b"}}]}`:         `function "a", tag "" at "http://b": expected`,
		`{"functions": [], "experiments": [{"nmae": "likes"}]}`:                               shape + `json: unknown field "nmae"`,
	} {
		if v, err := parseRoutes([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || v.targets != nil || v.experiments != nil {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// ownersAndURLs returns the owner of each route, and the address of each function.
func ownersAndURLs(t *table) (owners, urls map[string]string) {
	urls = make(map[string]string)
	for name, to := range t.targets {
		urls[name] = to.url.String()
	}
	return t.owners, urls
}

// TestARouteBelongsToOneFunction goes through views that follow one another.
func TestARouteBelongsToOneFunction(t *testing.T) {
	t.Parallel()
	entryOf := func(name string, routes ...string) string {
		return `{"name": "` + name + `", "url": "http://` + name + `:80", "routes": ["` + strings.Join(routes, `", "`) + `"]}`
	}
	steps := []struct {
		name      string
		functions []string
		owners    map[string]string
		mistakes  []string
	}{
		{"the first of two has it", []string{entryOf("a", "/x"), entryOf("b", "/x", "/y")}, map[string]string{"/x": "a", "/y": "b"},
			[]string{"b claims /x, which stays with a"}},
		{"a route stays with its Service, first or not", []string{entryOf("c", "/x", "/y"), entryOf("a", "/x"), entryOf("b", "/y")}, map[string]string{"/x": "a", "/y": "b"},
			[]string{"c claims /x, which stays with a", "c claims /y, which stays with b"}},
		{"until it gives it up", []string{entryOf("c", "/x", "/y"), entryOf("b", "/y")}, map[string]string{"/x": "c", "/y": "b"},
			[]string{"c claims /y, which stays with b"}},
		{"also where the patterns only overlap", []string{entryOf("d", "/{id}"), entryOf("e", "/{name}"), entryOf("b", "/y")}, map[string]string{"/{id}": "d", "/y": "b"},
			[]string{`e: route "/{name}": `}},
		{"what is no route is left out, and the rest counts", []string{entryOf("a", "GET /x", "", "x", "/{", "/x/{id}/{id}", "/good", "/good")}, map[string]string{"/good": "a"},
			[]string{`a: route "GET /x": expected a path`, `a: route "": expected a path`, `a: route "x": expected a path`, `a: route "/{": `, `a: route "/x/{id}/{id}": `}},
	}
	var before *table
	for _, step := range steps {
		v, err := parseRoutes([]byte(`{"functions": [` + strings.Join(step.functions, ",") + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		after, err := newTable(v, before, new(tripwires))
		if owners, _ := ownersAndURLs(after); err == nil || !cmp.Equal(step.owners, owners) {
			t.Errorf("%s: %s, %v", step.name, cmp.Diff(step.owners, owners), err)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		for _, want := range step.mistakes {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", step.name, lines, want)
			}
		}
		before = after
	}
}

// TestABrokenFileKeepsTheLastView and is reported once.
func TestABrokenFileKeepsTheLastView(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "routes.json")
	r := &routes{file: file, log: zerolog.New(io.Discard)}
	refresh := func() string {
		t.Helper()
		if err := r.refresh(t.Context()); err != nil {
			return err.Error()
		}
		return ""
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(step string, complaint string, want map[string]string) {
		t.Helper()
		if got := refresh(); complaint == "" && got != "" || !strings.Contains(got, complaint) {
			t.Errorf("%s: %q, want %q", step, got, complaint)
		}
		if again := refresh(); again != "" {
			t.Errorf("%s: complains again: %s", step, again)
		}
		ready := r.Ready(t.Context())
		if want == nil {
			if ready == nil || !strings.Contains(ready.Error(), "ROUTES_FILE: "+file+" has not been read") {
				t.Errorf("%s: ready %v", step, ready)
			}
			return
		}
		if ready != nil {
			t.Errorf("%s: %v", step, ready)
			return
		}
		if _, urls := ownersAndURLs(r.current.Load()); !cmp.Equal(want, urls) {
			t.Errorf("%s: %s", step, cmp.Diff(want, urls))
		}
	}
	expect("no file yet", "ROUTES_FILE: open "+file, nil)
	put("{")
	expect("broken from the start", "ROUTES_FILE "+file+": expected {", nil)
	put(`{"functions": [{"name": "a", "url": "http://a"}]}`)
	first := map[string]string{"a": "http://a"}
	expect("the first view", "", first)
	put(`{"functions": [{"name": "a", "url": "htt`)
	expect("half a file", "unexpected EOF", first)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect("gone", "ROUTES_FILE: open "+file, first)
	put(`{"functions": [{"name": "a", "url": "http://b"}]}`)
	expect("back", "", map[string]string{"a": "http://b"})
}

// TestBeforeTheFirstViewAPathIsNotA404, because a 404 would say that the endpoint does not exist.
func TestBeforeTheFirstViewAPathIsNotA404(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	edge.routes.current.Store(nil)
	wantProblem(t, send(t, http.MethodGet, edge.url+"/2/tweets/1", ""), problem.Unavailable)
	if a := send(t, http.MethodGet, edge.url+"/healthz", ""); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("healthy without a route: %s", a.Status)
	}
	if err := edge.routes.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	edge.write(t, functionEntry{Name: "a", URL: "http://" + refusingAddress(t)})
	if a := send(t, http.MethodGet, edge.url+"/healthz", ""); a.StatusCode != http.StatusOK {
		t.Errorf("not healthy: %s %s", a.Status, a.body)
	}
	wantProblem(t, send(t, http.MethodGet, edge.url+"/2/tweets/1", ""), problem.NotFound)
}

func FuzzRoutesFile(f *testing.F) {
	for _, seed := range []string{
		`{"functions": [{"name": "a", "url": "http://a:80", "starting": true, "routes": ["/x", "/x/{id}", "/{$}"]}, {"name": "b", "url": "http://b", "routes": ["/x", "/{y}"]}]}`,
		`{"functions": [{"name": "a", "url": "http://a", "tags": {"candidate": "http://b"}, "routes": ["/"]}],
			"experiments": [{"name": "x", "services": ["a"], "unit": "user", "salt": "s", "layer": {"to": 10000}, "open": {"control": 1, "treatment": 2},
				"reach": {"a": {"control": {"host": "b:1", "revision": "c"}, "treatment": {"host": "d:1", "revision": "e"}}}}]}`,
		`{"functions": null}`, `{"functions": [{"name": "\u0000", "url": "http://[::1%25eth0]:1", "routes": ["/{...}", "/%zz", "GET /x", "//"]}]}`, "\xff", "[",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := parseRoutes(text)
		if err != nil {
			return
		}
		first, _ := newTable(v, nil, new(tripwires))
		second, _ := newTable(v, first, new(tripwires))
		firstOwners, _ := ownersAndURLs(first)
		secondOwners, _ := ownersAndURLs(second)
		if diff := cmp.Diff(firstOwners, secondOwners); diff != "" {
			t.Errorf("the same file moves routes: %s", diff)
		}
		for _, to := range v.targets {
			in := first.targets[to.name]
			if to.url.Host == "" || in == nil || in.url != to.url {
				t.Errorf("a target without an address, or lost: %+v", to)
			}
			if in.experiment != nil && (in.experiment.control.url.Host == "" || in.experiment.treatment.url.Host == "" || in.experiment.tripwire == nil) {
				t.Errorf("an arm without an address: %+v", in.experiment)
			}
		}
		r := &routes{}
		r.current.Store(first)
		for route, owner := range firstOwners {
			request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://edge"+route, nil)
			if err != nil {
				continue
			}
			if to, pattern := r.match(request); to != nil && first.owners[pattern] != to.name {
				t.Errorf("%s, of %s, is matched by %s of %s", route, owner, pattern, to.name)
			}
		}
	})
}
