package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/token"
	"warble/shared/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const secret = "a quiet otter juggles"

// fixture is the function over HTTP, with its own database.
type fixture struct {
	testing.TB
	url       string
	data      pgtest.Database
	db        *store.DB
	issuer    *token.Issuer
	passwords *password.Hasher
}

func start(t testing.TB) *fixture {
	t.Helper()
	issuer, tokens := apitest.Keys(t, t.TempDir())
	f := function.NewTest(t.Output())
	w := &fixture{TB: t, data: pgtest.New(t), issuer: issuer, passwords: password.FromEnv(f.Env, f.Telemetry)}
	w.db = w.data.Open(t, pgtest.Auth)
	server := httptest.NewServer(f.Handler(New(w.db, tokens, w.passwords, policy.FromEnv(f.Env)), w.db, tokens))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// person is a user and one of their sessions.
type person struct {
	*fixture
	id      int64
	email   string
	token   string
	refresh string
	session string
}

func (w *fixture) register(name string) person {
	w.Helper()
	hash, err := w.passwords.Hash(w.Context(), secret)
	if err != nil {
		w.Fatal(err)
	}
	refresh, refreshHash := token.NewRefresh()
	p := person{fixture: w, email: name + "@example.com", refresh: refresh}
	opened, err := w.db.CreateAccount(w.Context(), store.NewAccount{
		Email: p.email, PasswordHash: hash, Username: name, Name: "Name of " + name, Community: "gophers", RefreshHash: refreshHash,
		From: store.Client{Network: "203.0.113.0/24", UserAgent: "curl/8.14"},
	})
	if err != nil {
		w.Fatal(err)
	}
	return p.withSession(opened, refresh)
}

// login begins another session.
func (p person) login() person {
	p.Helper()
	refresh, refreshHash := token.NewRefresh()
	attempt, err := p.db.BeginLogin(p.Context(), p.email, store.Client{Network: "198.51.100.0/24", UserAgent: "a phone"})
	if err != nil {
		p.Fatal(err)
	}
	session, err := p.db.FinishLogin(p.Context(), attempt, refreshHash, "")
	if err != nil {
		p.Fatal(err)
	}
	return p.withSession(store.Opened{Session: session, User: attempt.User}, refresh)
}

func (p person) withSession(o store.Opened, refresh string) person {
	p.Helper()
	s, err := wire.NewSession(p.issuer, o, refresh)
	if err != nil {
		p.Fatal(err)
	}
	p.id, p.token, p.refresh, p.session = o.User.ID, s.Token, refresh, strconv.FormatInt(o.Session, 10)
	return p
}

// do sends a request, checks the answer's status and returns its body.
func (p person) do(status int, request, body string) string {
	p.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(p.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		p.Fatal(err)
	}
	if answer.StatusCode != status {
		p.Fatalf("%s %s: %d %s, want %d", request, body, answer.StatusCode, text, status)
	}
	if answer.Header.Get("Cache-Control") != "no-store" {
		p.Errorf("%s: Cache-Control %q, want no-store", request, answer.Header.Get("Cache-Control"))
	}
	return string(text)
}

// sql runs a statement as the database's owner.
func (w *fixture) sql(sql string, args ...any) {
	w.Helper()
	if err := pgtest.Exec(w.Context(), w.data.URL(pgtest.Owner), sql, args...); err != nil {
		w.Fatal(err)
	}
}

func (p person) refreshes() bool {
	p.Helper()
	hash, err := token.HashRefresh(p.refresh)
	if err != nil {
		p.Fatal(err)
	}
	_, next := token.NewRefresh()
	_, err = p.db.RotateRefresh(p.Context(), store.Client{}, hash, next)
	return err == nil
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	ada := start(t).register("ada")
	other := ada.login()
	const next = "an otter that sings"
	for body, want := range map[string]int{
		`{"current":"` + secret + `","new":"short"}`:            http.StatusUnprocessableEntity,
		`{"current":"` + secret + `","new":"password1"}`:        http.StatusUnprocessableEntity,
		`{"current":"` + secret + `","new":"ada@example.com1"}`: http.StatusUnprocessableEntity,
		`{"current":"` + secret + `"}`:                          http.StatusUnprocessableEntity,
		`{"new":"` + next + `"}`:                                http.StatusUnprocessableEntity,
		`{"current":"wrong","new":"` + next + `"}`:              http.StatusForbidden,
	} {
		ada.do(want, "PUT /auth/password", body)
	}
	ada.do(http.StatusNoContent, "PUT /auth/password", `{"current":"`+secret+`","new":"`+next+`"}`)
	ada.do(http.StatusForbidden, "PUT /auth/password", `{"current":"`+secret+`","new":"`+next+`"}`)
	ada.do(http.StatusNoContent, "PUT /auth/password", `{"current":"`+next+`","new":"`+secret+`"}`)
	if other.refreshes() || !ada.refreshes() {
		t.Error("expected the other session, and only that, to end")
	}
	other.do(http.StatusUnauthorized, "DELETE /auth/sessions", "")
}

// TestGuessesOfThePasswordAreSlowedDown: an access token must not get around the delays of login.
func TestGuessesOfThePasswordAreSlowedDown(t *testing.T) {
	t.Parallel()
	ada := start(t).register("ada")
	for range 5 {
		ada.do(http.StatusForbidden, "DELETE /auth/account", `{"password":"wrong"}`)
	}
	ada.do(http.StatusTooManyRequests, "DELETE /auth/account", `{"password":"`+secret+`"}`)
	ada.do(http.StatusTooManyRequests, "PUT /auth/password", `{"current":"`+secret+`","new":"an otter that sings"}`)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	phone, laptop := ada.login(), ada.login()
	list := func() (ids []string) {
		var got wire.List[session]
		if err := json.Unmarshal([]byte(ada.do(http.StatusOK, "GET /auth/sessions", "")), &got); err != nil {
			t.Fatal(err)
		}
		for _, s := range got.Data {
			if s.Current != (s.ID == ada.session) || s.UserAgent == "" || s.Network == "" || s.CreatedAt == "" || s.LastUsedAt == "" {
				t.Errorf("session %+v", s)
			}
			ids = append(ids, s.ID)
		}
		return ids
	}
	want := func(ids ...string) {
		t.Helper()
		if diff := cmp.Diff(ids, list()); diff != "" {
			t.Errorf("sessions (-want +got): %s", diff)
		}
	}
	want(laptop.session, phone.session, ada.session)
	bob.do(http.StatusNotFound, "DELETE /auth/sessions/"+phone.session, "")
	ada.do(http.StatusNotFound, "DELETE /auth/sessions/1", "")
	ada.do(http.StatusBadRequest, "DELETE /auth/sessions/x", "")
	ada.do(http.StatusNoContent, "DELETE /auth/sessions/"+phone.session, "")
	ada.do(http.StatusNotFound, "DELETE /auth/sessions/"+phone.session, "")
	want(laptop.session, ada.session)
	if phone.refreshes() || !laptop.refreshes() {
		t.Error("expected the phone's session, and only that, to end")
	}
	ada.do(http.StatusNoContent, "DELETE /auth/sessions", "")
	want(ada.session)
	if laptop.refreshes() || !bob.refreshes() {
		t.Error("expected all of ada's other sessions to end, and nobody else's")
	}
	ada.do(http.StatusNoContent, "DELETE /auth/sessions/"+ada.session, "") // ending one's own session is a logout
	ada.do(http.StatusUnauthorized, "DELETE /auth/sessions", "")
}

func TestExport(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	const tweets = 2*store.ExportPage + 1
	w.sql(`insert into tweets (author_id, text) select $1, 'ada "' || n || '"' from generate_series(1, $2::int) n`, ada.id, tweets)
	w.sql(`insert into tweets (author_id, text, deleted_at) values ($1, '', now())`, ada.id)
	w.sql(`insert into tweets (author_id, text) values ($1, 'of bob')`, bob.id)
	w.sql(`insert into tweets (author_id, text, retweet_of) select $1, '', id from tweets where author_id = $2`, ada.id, bob.id)
	w.sql(`insert into likes (user_id, tweet_id) select $1, id from tweets where author_id = $2`, ada.id, bob.id)
	w.sql(`insert into feedback (user_id, score, text) values ($1, 4, 'fine'), ($2, 1, 'of bob')`, ada.id, bob.id)
	var got struct {
		User       wire.User
		Community  string
		Email      string
		Sessions   []session
		Tweets     []exportedTweet
		Likes      []exportedLike
		Feedback   []exportedFeedback
		ActiveDays []string `json:"active_days"`
	}
	answer := ada.do(http.StatusOK, "GET /auth/export", "")
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatalf("%v: %.200s", err, answer)
	}
	if got.User.Name != "Name of ada" || got.Email != ada.email || got.Community != "gophers" || len(got.Sessions) != 1 {
		t.Errorf("%+v", got)
	}
	if len(got.Tweets) != tweets+1 || got.Tweets[0].Text != `ada "1"` || got.Tweets[tweets].RetweetOf == "" || len(got.Likes) != 1 {
		t.Errorf("%d tweets and %d likes: want %d and 1", len(got.Tweets), len(got.Likes), tweets+1)
	}
	if diff := cmp.Diff([]exportedFeedback{{Score: 4, Text: "fine", CreatedAt: got.Feedback[0].CreatedAt}}, got.Feedback); diff != "" {
		t.Error(diff)
	}
	if today := time.Now().UTC().Format(time.DateOnly); len(got.ActiveDays) == 0 || got.ActiveDays[len(got.ActiveDays)-1] > today {
		t.Errorf("active on %v, today is %s", got.ActiveDays, today)
	}
	if strings.Contains(answer, "of bob") || strings.Contains(answer, "argon2id") {
		t.Error("the export has another's text or a password's hash")
	}
}

func TestDeleteAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	ada.do(http.StatusUnprocessableEntity, "DELETE /auth/account", `{}`)
	ada.do(http.StatusUnsupportedMediaType, "DELETE /auth/account", ``)
	ada.do(http.StatusForbidden, "DELETE /auth/account", `{"password":"wrong"}`)
	ada.do(http.StatusAccepted, "DELETE /auth/account", `{"password":"`+secret+`"}`)
	ada.do(http.StatusUnauthorized, "DELETE /auth/account", `{"password":"`+secret+`"}`)
	ada.do(http.StatusUnauthorized, "GET /auth/export", "")
	ada.do(http.StatusUnauthorized, "DELETE /auth/sessions", "")
	if attempt, err := w.db.BeginLogin(t.Context(), ada.email, store.Client{}); err != nil || attempt.PasswordHash != "" {
		t.Errorf("login: a password hash %q, %v: expected nobody's", attempt.PasswordHash, err)
	}
	if ada.refreshes() || !bob.refreshes() {
		t.Error("expected ada's session, and only hers, to end")
	}
	// Nobody else can get the username. The email address can be registered again.
	_, err := w.db.CreateAccount(t.Context(), store.NewAccount{Email: "new@example.com", Username: "ADA", Name: "x", RefreshHash: []byte("x")})
	if err == nil || !strings.Contains(err.Error(), "conflict") && !strings.Contains(err.Error(), "taken") {
		t.Errorf("the username is given again: %v", err)
	}
	if _, err := w.db.CreateAccount(t.Context(), store.NewAccount{Email: ada.email, Username: "ada2", Name: "x", RefreshHash: []byte("y")}); err != nil {
		t.Errorf("the email address is not free: %v", err)
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	stranger := person{fixture: start(t)}
	for _, request := range []string{
		"PUT /auth/password", "GET /auth/sessions", "DELETE /auth/sessions", "DELETE /auth/sessions/1", "GET /auth/export", "DELETE /auth/account",
		"POST /auth/verify-email/resend",
	} {
		stranger.do(http.StatusUnauthorized, request, "")
	}
}
