package main

import (
	"net/http"
	"strings"
	"testing"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
	"warble/shared/token"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newAPI(t testing.TB) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, _ *telemetry.Telemetry) function.Routes {
		return New(db, tokens)
	})
}

func TestFeedback(t *testing.T) {
	t.Parallel()
	ada := newAPI(t).User("ada", "")
	long := strings.Repeat("é", maxText)
	for _, tt := range []struct {
		body  string
		want  int
		field string
	}{
		{`{"score":1}`, http.StatusCreated, ""},
		{`{"score":5,"text":""}`, http.StatusCreated, ""},
		{`{"score":5,"text":" so\tand\nso \ud83d\udc26 "}`, http.StatusCreated, ""},
		{`{"score":3,"text":"  ` + long + `  "}`, http.StatusCreated, ""},
		{`{"score":3,"text":"` + long + `e"}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":3,"text":"\u0000"}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":3,"text":"\u202e"}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":3,"text":" "}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":3,"text":"\u3164\u200b"}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":3,"text":7}`, http.StatusUnprocessableEntity, "text"},
		{`{"score":5.0}`, http.StatusCreated, ""},
		{`{"score":50e-1,"text":null}`, http.StatusCreated, ""},
		{`{"score":0}`, http.StatusUnprocessableEntity, "score"},
		{`{"score":6}`, http.StatusUnprocessableEntity, "score"},
		{`{"score":4.5}`, http.StatusUnprocessableEntity, "score"},
		{`{"score":"4"}`, http.StatusUnprocessableEntity, "score"},
		{`{"score":null}`, http.StatusUnprocessableEntity, "score"},
		{`{"text":"nice"}`, http.StatusUnprocessableEntity, "score"},
		{`{"score":4,"mood":"good"}`, http.StatusUnprocessableEntity, "mood"},
		{`{"Score":4}`, http.StatusUnprocessableEntity, "Score"},
		{`{"score":4,"score":3}`, http.StatusBadRequest, "score"},
		{"{\"score\":4,\"text\":\"\xe9\"}", http.StatusBadRequest, ""},
		{`4`, http.StatusBadRequest, ""},
	} {
		got := ada.Do("POST", "/feedback", tt.body)
		if got.Status != tt.want || tt.field != "" && !strings.Contains(got.Body, `"field":"`+tt.field+`"`) {
			t.Errorf("%.60s: %d %s, want %d", tt.body, got.Status, got.Body, tt.want)
		}
		if tt.want != http.StatusCreated {
			continue
		}
		stored := apitest.Decode[struct{ Data struct{ ID string } }](t, got, http.StatusCreated)
		if _, err := function.ParseID(stored.Data.ID); err != nil {
			t.Errorf("%s: %v", got.Body, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	score := 2
	if got, err := (opinion{&score, " cafe\u0301 \n"}).check(); err != nil || got != (store.NewFeedback{Score: 2, Text: "caf\u00e9"}) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	ada := newAPI(t).User("ada", "")
	send := func(body string) apitest.Answer { return ada.Do("POST", "/feedback", body, "Idempotency-Key", "k") }
	first, again := send(`{"score":4}`), send(`{"score":4}`)
	if first.Status != http.StatusCreated || again.Status != first.Status || again.Body != first.Body || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v, and again %+v", first, again)
	}
	if got := send(`{"score":5}`); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("same key, other body: %d %s", got.Status, got.Body)
	}
	if got := ada.Do("POST", "/feedback", `{"score":4}`); got.Body == first.Body {
		t.Errorf("without a key, the first answer: %s", got.Body)
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	newAPI(t).NeedsToken("POST /feedback")
}

func FuzzFeedback(f *testing.F) {
	for _, seed := range []string{`{"score":4,"text":"nice"}`, `{"score":1e0}`, `{"score":9999999999999999999}`, `{"score":4,"text":"\u0000\ud800"}`, `{`} {
		f.Add(seed)
	}
	ada := newAPI(f).User("ada", "")
	f.Fuzz(func(t *testing.T, body string) {
		ada.In(t).Do("POST", "/feedback", body, "Content-Type", "application/json") // newAPI fails the test on a 500
	})
}
