package function_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/problem"
)

type note struct {
	Text  string    `json:"text"`
	Count int       `json:"count"`
	Since time.Time `json:"since,omitzero"`
	After lapse     `json:"after,omitzero"`
	ID    int64     `json:"-"`
}

// lapse is a type that reads itself.
type lapse time.Duration

func (l *lapse) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*l = lapse(d)
	return err
}

func (n *note) FromRequest(r *http.Request) (err error) {
	n.ID, err = function.PathID(r, "id")
	return err
}

func echo(_ context.Context, n note) (note, error) { return n, nil }

func serve(t *testing.T, routes function.Routes, needs ...function.Dependency) (url string, log *syncBuffer) {
	t.Helper()
	log = new(syncBuffer)
	server := httptest.NewServer(function.NewTest(log).Handler(routes, needs...))
	t.Cleanup(server.Close)
	return server.URL, log
}

func TestJSONRefusesWrongRequests(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, function.Routes{"POST /notes/{id}": function.JSON(echo)})
	tests := []struct {
		name, path, kind, body string
		status                 int
		says                   string
	}{
		{"no type", "/notes/1", "", `{}`, 415, `its Content-Type is \"\"`},
		{"form", "/notes/1", "application/x-www-form-urlencoded", `text=a`, 415, "must be application/json"},
		{"empty", "/notes/1", "application/json", ``, 400, "one JSON object"},
		{"null", "/notes/1", "application/json", `null`, 400, "one JSON object"},
		{"array", "/notes/1", "application/json", `[]`, 400, "one JSON object"},
		{"cut", "/notes/1", "application/json", `{"text":`, 400, "not valid JSON"},
		{"two", "/notes/1", "application/json", `{} {}`, 400, "not valid JSON"},
		{"unknown member", "/notes/1", "application/json", `{"txet":"a"}`, 422, `"field":"txet"`},
		{"wrong type", "/notes/1", "application/json", `{"text":7}`, 422, "text must be a string, not number"},
		{"object for a number", "/notes/1", "application/json", `{"count":{}}`, 422, "count must be a whole number, not an object"},
		{"no time", "/notes/1", "application/json", `{"since":"yesterday"}`, 422, "since must be an RFC 3339 time"},
		{"number for a time", "/notes/1", "application/json", `{"since":7}`, 422, "since must be an RFC 3339 time"},
		{"what a type refuses that reads itself", "/notes/1", "application/json", `{"after":"soon"}`, 422, "after is not valid"},
		{"fraction", "/notes/1", "application/json", `{"count":4.5}`, 422, "count must be a whole number, not 4.5"},
		{"fraction that no float64 tells", "/notes/1", "application/json", `{"count":4.99999999999999999999}`, 422, "a whole number"},
		{"fraction by its exponent", "/notes/1", "application/json", `{"count":5e-1}`, 422, "a whole number"},
		{"number too large", "/notes/1", "application/json", `{"count":1e400000000}`, 422, "at most 64 bits"},
		{"number of 65 bits", "/notes/1", "application/json", `{"count":-9223372036854775809}`, 422, "at most 64 bits"},
		{"member in another case", "/notes/1", "application/json", `{"TEXT":"a"}`, 422, `"field":"TEXT"`},
		{"the same in two cases", "/notes/1", "application/json", `{"text":"a","Text":"b"}`, 422, `"field":"Text"`},
		{"member twice", "/notes/1", "application/json", `{"text":"a","text":"b"}`, 400, "the member text twice"},
		{"member twice by an escape", "/notes/1", "application/json", `{"text":"a","te\u0078t":"b"}`, 400, "the member text twice"},
		{"member of null twice", "/notes/1", "application/json", `{"count":null,"count":3}`, 400, "the member count twice"},
		{"Latin-1", "/notes/1", "application/json", "{\"text\":\"caf\xe9\"}", 400, "not valid JSON in UTF-8"},
		{"no UTF-8 at all", "/notes/1", "application/json", "{\"text\":\"\xff\"}", 400, "not valid JSON in UTF-8"},
		{"surrogate in UTF-8", "/notes/1", "application/json", "{\"text\":\"\xed\xa0\x80\"}", 400, "not valid JSON in UTF-8"},
		{"lone surrogate", "/notes/1", "application/json", `{"text":"\ud800"}`, 400, "not valid JSON in UTF-8"},
		{"surrogates in the wrong order", "/notes/1", "application/json", `{"text":"\udc00\ud800"}`, 400, "not valid JSON in UTF-8"},
		{"lone surrogate in a name", "/notes/1", "application/json", `{"\udead":1}`, 400, "not valid JSON in UTF-8"},
		{"byte order mark", "/notes/1", "application/json", "\ufeff{}", 400, "one JSON object"},
		{"another charset", "/notes/1", "application/json; charset=iso-8859-1", `{}`, 415, `its charset is \"iso-8859-1\"`},
		{"no charset", "/notes/1", `application/json; charset=""`, `{}`, 415, `its charset is \"\"`},
		{"too large", "/notes/1", "application/json", `{"text":"` + strings.Repeat("a", 64<<10) + `"}`, 413, "64 KiB"},
		{"id", "/notes/abc", "application/json", `{}`, 400, `"field":"id"`},
		{"id of 20 digits", "/notes/10000000000000000000", "application/json", `{}`, 400, `"field":"id"`},
		{"path", "/note/1", "application/json", `{}`, 404, "/note/1"},
		{"double slash", "//notes/1", "application/json", `{}`, 404, "//notes/1"},
		{"dots", "/notes/../notes/1", "application/json", `{}`, 404, "no endpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			headers := []string{}
			if tt.kind != "" {
				headers = []string{"Content-Type", tt.kind}
			}
			answer, body := apitest.Send(t, http.MethodPost, url+tt.path, tt.body, headers...)
			if answer.StatusCode != tt.status || !strings.Contains(body, tt.says) {
				t.Fatalf("%d %s\nwant %d with %q", answer.StatusCode, body, tt.status, tt.says)
			}
			var p struct {
				Type, Title, Detail, Instance string
				Status                        int
				Errors                        []problem.Item
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatal(err)
			}
			if p.Status != tt.status || p.Type == "" || p.Title == "" || p.Detail == "" || len(p.Errors) == 0 || p.Errors[0].Message == "" {
				t.Errorf("incomplete problem: %s", body)
			}
			if got := answer.Header.Get("X-Request-Id"); got == "" || p.Instance != got {
				t.Errorf("instance %q, X-Request-Id %q", p.Instance, got)
			}
			if got := answer.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

func TestJSONReadsValidRequests(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, function.Routes{"POST /notes/{id}": function.JSON(echo)})
	for _, kind := range []string{"application/json", "Application/JSON", "application/json;charset=UTF-8", `application/json; charset="utf-8"`} {
		if answer, body := apitest.Send(t, http.MethodPost, url+"/notes/1", `{}`, "Content-Type", kind); answer.StatusCode != 200 {
			t.Errorf("%s: %d %s", kind, answer.StatusCode, body)
		}
	}
	for encoding, want := range map[string]int{"identity": 200, "Identity": 200, "IDENTITY": 200, "gzip": 415} {
		answer, body := apitest.Send(t, http.MethodPost, url+"/notes/1", `{}`, "Content-Type", "application/json", "Content-Encoding", encoding)
		if answer.StatusCode != want {
			t.Errorf("Content-Encoding: %s: %d %s, want %d", encoding, answer.StatusCode, body, want)
		}
	}
	for body, want := range map[string]string{
		`{"count":5.0}`:                     `{"text":"","count":5}`,
		`{"count":5e0}`:                     `{"text":"","count":5}`,
		`{"count":-0.05E+2}`:                `{"text":"","count":-5}`,
		`{"count":500e-2}`:                  `{"text":"","count":5}`,
		`{"count":0e999999999}`:             `{"text":"","count":0}`,
		`{"count":9007199254740993.0}`:      `{"text":"","count":9007199254740993}`,
		`{"count":9.223372036854775807e18}`: `{"text":"","count":9223372036854775807}`,
		`{"text":null,"count":null}`:        `{"text":"","count":0}`,
		`{"text":"\ud83d\ude00"}`:           `{"text":"😀","count":0}`,
		`{"text":"😀"}`:                      `{"text":"😀","count":0}`,
	} {
		if answer, got := apitest.Send(t, http.MethodPost, url+"/notes/1", body, "Content-Type", "application/json"); answer.StatusCode != 200 || got != want+"\n" {
			t.Errorf("%s: %d %s, want %s", body, answer.StatusCode, got, want)
		}
	}
}

func TestA405ListsTheRightMethods(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, function.Routes{"POST /notes/{id}": function.JSON(echo), "DELETE /notes/{id}": function.JSON(echo)})
	answer, body := apitest.Send(t, http.MethodPut, url+"/notes/1", "")
	if answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "POST, DELETE" {
		t.Errorf("%d, Allow %q: %s", answer.StatusCode, answer.Header.Get("Allow"), body)
	}
}

func TestJSONEncodesAnswers(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, function.Routes{
		"POST /notes/{id}": function.JSON(echo, function.Status(201), function.Header("Cache-Control", "no-store")),
		"GET /notes/{id}":  function.JSON(echo, function.Tagged()),
		"DELETE /notes":    function.JSON(func(context.Context, struct{}) (function.None, error) { return function.None{}, nil }),
		"POST /nothing":    function.JSON(func(context.Context, struct{}) (function.None, error) { return function.None{}, nil }),
		"GET /first": function.JSON(func(context.Context, struct{}) (idempotency.Answer, error) {
			return idempotency.Answer{Status: 201, Body: []byte(`{"id":"7"}`), Replayed: true}, nil
		}),
	})

	answer, body := apitest.Send(t, http.MethodPost, url+"/notes/1", `{"text":"<a>","count":2}`, "Content-Type", "application/json; charset=utf-8")
	if answer.StatusCode != 201 || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("POST: %d %v", answer.StatusCode, answer.Header)
	}
	if diff := cmp.Diff(`{"text":"<a>","count":2}`+"\n", body); diff != "" {
		t.Error(diff)
	}

	answer, _ = apitest.Send(t, http.MethodGet, url+"/notes/1", "")
	tag := answer.Header.Get("ETag")
	if answer.StatusCode != 200 || tag == "" {
		t.Fatalf("GET: %d, ETag %q", answer.StatusCode, tag)
	}
	for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		if answer, body := apitest.Send(t, http.MethodGet, url+"/notes/1", "", "If-None-Match", header); answer.StatusCode != 304 || body != "" {
			t.Errorf("If-None-Match %s: %d %q", header, answer.StatusCode, body)
		}
	}
	if answer, body := apitest.Send(t, http.MethodGet, url+"/notes/1", "", "If-None-Match", `"other"`, "If-None-Match", `"third", `+tag); answer.StatusCode != 304 || body != "" {
		t.Errorf("If-None-Match over two lines: %d %q", answer.StatusCode, body)
	}
	if answer, _ := apitest.Send(t, http.MethodGet, url+"/notes/1", "", "If-None-Match", `"other"`); answer.StatusCode != 200 {
		t.Errorf("another tag: %d", answer.StatusCode)
	}

	if answer, body := apitest.Send(t, http.MethodDelete, url+"/notes", ""); answer.StatusCode != 204 || body != "" {
		t.Errorf("DELETE: %d %q", answer.StatusCode, body)
	}
	if answer, body := apitest.Send(t, http.MethodPost, url+"/nothing", ""); answer.StatusCode != 204 || body != "" {
		t.Errorf("POST without a body: %d %q", answer.StatusCode, body)
	}
	answer, body = apitest.Send(t, http.MethodGet, url+"/first", "")
	if answer.StatusCode != 201 || body != `{"id":"7"}` || answer.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay: %d %q %v", answer.StatusCode, body, answer.Header)
	}
}
