package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"warble/shared/function"
	"warble/shared/problem"
)

// FuzzDecode checks that every body either decodes or is the client's mistake. A body that decodes is in UTF-8, and gives the same
// values as the standard library, except for numbers with a point or an exponent.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"text":"a","count":1}`, `{"text":7}`, `{"x":1}`, `null`, `[`, `{"count":1e999}`, "{\"text\":\"\xff\"}", `{"text":"\ud800"}`, `{} {}`,
		`{"TEXT":"a"}`, `{"text":"a","text":"b"}`, `{"count":5.0}`, `{"count":-50e-1}`, `{"count":9223372036854775807}`, `{"text":null}`,
		strings.Repeat(`{"a":`, 10001),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var n note
		err := function.Decode(body, &n)
		if err != nil {
			if !errors.Is(err, problem.Malformed) && !errors.Is(err, problem.Invalid) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if !utf8.Valid(body) || !utf8.ValidString(n.Text) {
			t.Errorf("%q is not in UTF-8, and is read as %q", body, n.Text)
		}
		var members struct {
			Text  string
			Count json.Number
		}
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("%q is no JSON: %v", body, err)
		}
		if members.Text != n.Text {
			t.Errorf("%q is read as %q, expected %q", body, n.Text, members.Text)
		}
		if members.Count == "" {
			return
		}
		if at := strings.IndexAny(members.Count.String(), "eE"); at >= 0 && len(members.Count)-at > 5 {
			return // big.Rat would take long
		}
		want, ok := new(big.Rat).SetString(members.Count.String())
		if !ok || want.Cmp(new(big.Rat).SetInt64(int64(n.Count))) != 0 {
			t.Errorf("%q is read as %d", body, n.Count)
		}
	})
}

// FuzzRequest checks that every target and every header gives a success or names the client's mistake.
func FuzzRequest(f *testing.F) {
	f.Add("/notes/1", "id", "application/json", "key", `{"text":"a"}`)
	f.Add("//notes/../1%2F", "\x00", ";;", "\x7f", `{`)
	handler := function.NewTest(new(syncBuffer)).Handler(function.Routes{
		"POST /notes/{id}": function.JSON(func(ctx context.Context, n note) (note, error) {
			function.Key(ctx)
			return n, nil
		}),
	})
	f.Fuzz(func(t *testing.T, target, id, kind, key, body string) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body))
		r.URL.Path, r.RequestURI = target, target
		r.Header.Set("X-Request-Id", id)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Idempotency-Key", key)
		r.Header.Set(function.HeaderSignature, key)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// FuzzBearer checks that a token is exactly the text of the header after the scheme.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer a.b.c", "bearer  x", "BEARER", "Bearer ", "Basic eDp5", "", "Bearerx y", "\x00Bearer x", "Bearer x y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header["Authorization"] = []string{value}
		token, ok := function.Bearer(r)
		if !ok {
			if token != "" {
				t.Errorf("%q is no token, and is %q", value, token)
			}
			return
		}
		scheme := strings.TrimRight(strings.TrimSuffix(value, token), " ")
		if !strings.EqualFold(scheme, "bearer") || strings.HasPrefix(token, " ") {
			t.Errorf("%q is the token %q behind %q", value, token, scheme)
		}
	})
}
