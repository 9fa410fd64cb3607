package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/token"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	email  = "ada@example.com"
	secret = "a quiet otter juggles"
	home   = "203.0.113.7" // the address that ada registered from
	away   = "198.51.100.9"
)

// fixture is the function over HTTP, with its own database, in which ada has an account.
type fixture struct {
	testing.TB
	url       string
	data      pgtest.Database
	db        *store.DB
	passwords *password.Hasher
	issuer    *token.Issuer
	tokens    *token.Verifier
	keys      string       // the folder of the token keys
	failed    atomic.Int64 // when the last failed login was sent, in nanoseconds
}

func start(t testing.TB) *fixture {
	t.Helper()
	keys := t.TempDir()
	issuer, tokens := apitest.Keys(t, keys)
	f := function.NewTest(t.Output())
	w := &fixture{TB: t, data: pgtest.New(t), issuer: issuer, tokens: tokens, keys: keys, passwords: password.FromEnv(f.Env, f.Telemetry)}
	w.db = w.data.Open(t, pgtest.Auth)
	server := httptest.NewServer(f.Handler(New(w.db, issuer, w.passwords, f.Telemetry.AuthMetrics()), w.db, issuer))
	t.Cleanup(server.Close)
	w.url = server.URL

	hash, err := w.passwords.Hash(context.Background(), secret)
	if err != nil {
		t.Fatal(err)
	}
	_, refreshHash := token.NewRefresh()
	if _, err := w.db.CreateAccount(context.Background(), store.NewAccount{
		Email: "Ada@Example.com", PasswordHash: hash, Username: "ada", Name: "Ada", Community: "gophers",
		RefreshHash: refreshHash, From: store.Client{Network: "203.0.113.0/24"},
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

// answer is an answer with its decoded body; nil if there is none.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) text(member string) string { s, _ := a.body[member].(string); return s }

// post sends body, a JSON text, to path, as the edge does for the client at address.
func (f *fixture) post(address, path, body string) answer {
	f.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, f.url+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(function.HeaderClient, address)
	sent := time.Now()
	function.Sign(request, function.TestKey, sent)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header}
	if a.status == http.StatusUnauthorized {
		f.failed.Store(sent.UnixNano())
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			f.Fatalf("%s: %v", text, err)
		}
	}
	return a
}

func (f *fixture) login(address, email, password string) answer {
	f.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": password})
	if err != nil {
		f.Fatal(err)
	}
	return f.post(address, "/auth/login", string(body))
}

func (f *fixture) refresh(refreshToken string) answer {
	f.Helper()
	return f.post(home, "/auth/refresh", `{"refresh_token":"`+refreshToken+`"}`)
}

// wantStatus checks the status of an answer, and Retry-After if it is a 429. On a busy machine, part of the wait may have passed
// since the last failure.
func (f *fixture) wantStatus(a answer, status int, retryAfter ...int) {
	f.Helper()
	if a.status != status {
		f.Fatalf("status %d, want %d: %v", a.status, status, a.body)
	}
	for _, seconds := range retryAfter {
		since := int(time.Since(time.Unix(0, f.failed.Load())).Seconds())
		if got, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || got > seconds || got < seconds-since-1 {
			f.Errorf("Retry-After %q, want %d, %d s after the last failure", a.header.Get("Retry-After"), seconds, since)
		}
	}
	if cache := a.header.Get("Cache-Control"); cache != "no-store" {
		f.Errorf("Cache-Control %q", cache)
	}
}

// sql runs a statement as the database's owner.
func (f *fixture) sql(sql string, args ...any) {
	f.Helper()
	if err := pgtest.Exec(context.Background(), f.data.URL(pgtest.Owner), sql, args...); err != nil {
		f.Fatal(err)
	}
}

// advance moves the counts of failures into the past.
func (f *fixture) advance(by time.Duration) {
	f.Helper()
	f.sql(`update login_failures set last_at = last_at - make_interval(secs => $1)`, by.Seconds())
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := start(t)
	a := f.login(home, "ADA@example.com", secret)
	f.wantStatus(a, http.StatusOK)
	claims, err := f.tokens.Verify(a.text("token"))
	if err != nil {
		t.Fatal(err)
	}
	user, _ := a.body["data"].(map[string]any)
	want := map[string]any{"id": strconv.FormatInt(claims.UserID, 10), "name": "Ada", "username": "ada", "created_at": user["created_at"]}
	if diff := cmp.Diff(want, user); diff != "" {
		t.Error(diff)
	}
	if claims.Username != "ada" || claims.Community != "gophers" {
		t.Errorf("claims %+v", claims)
	}
	expires, err := time.Parse("2006-01-02T15:04:05.000Z", a.text("expires_at"))
	if err != nil || !expires.Equal(claims.ExpiresAt) {
		t.Errorf("expires_at %q, want %v", a.text("expires_at"), claims.ExpiresAt)
	}
	if len(a.body) != 4 || a.text("refresh_token") == "" {
		t.Errorf("members %v", a.body)
	}
}

// TestOnlyASCIILettersIgnoreCase: with Unicode's rules, the KELVIN SIGN would equal k, and the long s would equal s.
func TestOnlyASCIILettersIgnoreCase(t *testing.T) {
	t.Parallel()
	f := start(t)
	hash, err := f.passwords.Hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	_, refreshHash := token.NewRefresh()
	if _, err := f.db.CreateAccount(t.Context(), store.NewAccount{
		Email: "Kim.S@example.com", PasswordHash: hash, Username: "kim", Name: "Kim", RefreshHash: refreshHash, From: store.Client{Network: "203.0.113.0/24"},
	}); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]int{
		"kim.s@example.com": http.StatusOK, "KIM.S@EXAMPLE.COM": http.StatusOK,
		"\u212aim.s@example.com": http.StatusUnauthorized, "kim.\u017f@example.com": http.StatusUnauthorized,
	} {
		if a := f.login(home, address, secret); a.status != want {
			t.Errorf("%+q: %d, want %d", address, a.status, want)
		}
	}
}

// TestAPasswordMustBeUTF8: otherwise all invalid bytes would become U+FFFD, and different passwords would be equal.
func TestAPasswordMustBeUTF8(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, password := range []string{"\xe9 quiet otter", "\xff quiet otter", `\ud800 quiet otter`} {
		if a := f.post(home, "/auth/login", `{"email":"`+email+`","password":"`+password+`"}`); a.status != http.StatusBadRequest {
			t.Errorf("%q: %d %v", password, a.status, a.body)
		}
	}
}

// TestAnUnknownAddressLooksLikeAWrongPassword compares everything that a stranger can see. The hash takes all but a thousandth of
// the time, so the test counts hashes.
func TestAnUnknownAddressLooksLikeAWrongPassword(t *testing.T) {
	t.Parallel()
	f := start(t)
	var seen [2][]answer
	for n, address := range []string{email, "nobody@example.com"} {
		before := f.passwords.Hashes()
		for range 6 {
			a := f.login(away, address, "a wrong password")
			delete(a.body, "instance")
			a.header.Del("X-Request-Id")
			a.header.Del("Date")
			if a.status == http.StatusTooManyRequests {
				f.wantStatus(a, a.status, 15)
				a.header.Set("Retry-After", "15") // or a second less, on a busy machine
			}
			seen[n] = append(seen[n], a)
		}
		if hashes := f.passwords.Hashes() - before; hashes != 5 {
			t.Errorf("%s: %d hashes for five attempts and a refused one", address, hashes)
		}
	}
	if diff := cmp.Diff(seen[0], seen[1], cmp.AllowUnexported(answer{})); diff != "" {
		t.Error(diff)
	}
}

// pairs is how many pairs of logins TestAnUnknownAddressTakesAsLongAsAWrongPassword times. With 2000, a difference in 3 percent of
// the pairs can be told from chance.
var pairs = flag.Int("pairs", 40, "pairs of logins to time")

// TestAnUnknownAddressTakesAsLongAsAWrongPassword alternates between wrong passwords for an existing account and for an unknown one.
// It counts the pairs in which the first took longer, which must be half of them, except for chance. The machine's other work affects
// both alike.
func TestAnUnknownAddressTakesAsLongAsAWrongPassword(t *testing.T) {
	t.Parallel()
	f := start(t)
	took := func(address string) time.Duration {
		f.sql(`delete from login_failures`)
		began := time.Now()
		f.wantStatus(f.login(away, address, "a wrong password"), http.StatusUnauthorized)
		return time.Since(began)
	}
	longer := 0
	for n := range *pairs {
		var known, unknown time.Duration
		if n%2 == 0 { // the second login finds warm caches
			known, unknown = took(email), took("nobody@example.com")
		} else {
			unknown, known = took("nobody@example.com"), took(email)
		}
		if known > unknown {
			longer++
		}
	}
	// The normal approximation of the sign test: 2.58 means p < 0.01. Few pairs are only a smoke test, which must not fail by
	// chance.
	limit := 2.58
	if *pairs < 1000 {
		limit = 5
	}
	if z := (float64(longer) - float64(*pairs)/2) / (math.Sqrt(float64(*pairs)) / 2); math.Abs(z) > limit {
		t.Errorf("the account that is there took longer in %d of %d pairs (z = %.2f): expected |z| of %.2f at most", longer, *pairs, z, limit)
	} else {
		t.Logf("the account that is there took longer in %d of %d pairs (z = %.2f)", longer, *pairs, z)
	}
}

func TestFailuresDelayTheNextAttempt(t *testing.T) {
	t.Parallel()
	for _, address := range []string{email, "nobody@example.com"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			for range 5 {
				f.wantStatus(f.login(away, address, "wrong"), http.StatusUnauthorized)
			}
			for _, wait := range []int{15, 30, 60, 120, 240, 480, 900, 900, 900} {
				f.wantStatus(f.login(away, address, "wrong"), http.StatusTooManyRequests, wait)
				f.wantStatus(f.login("198.51.100.200", address, secret), http.StatusTooManyRequests, wait) // of the same network
				f.advance(time.Duration(wait) * time.Second)
				f.wantStatus(f.login(away, address, "wrong"), http.StatusUnauthorized)
			}
			if address != email {
				return
			}
			f.wantStatus(f.login(home, address, secret), http.StatusOK) // another network is not slowed down
			f.wantStatus(f.login(away, address, secret), http.StatusTooManyRequests)
			f.advance(15 * time.Minute)
			f.wantStatus(f.login(away, address, secret), http.StatusOK) // never locked out
			for range 5 {
				f.wantStatus(f.login(away, address, "wrong"), http.StatusUnauthorized) // counting started again
			}
		})
	}
}

// TestConcurrentAttemptsCountLikeAttemptsInARow, so that racing requests allow no additional guesses.
func TestConcurrentAttemptsCountLikeAttemptsInARow(t *testing.T) {
	t.Parallel()
	f := start(t)
	began := time.Now()
	statuses := countResults(20, func() int { return f.login(away, email, "wrong").status })
	waited := int(time.Since(began) / (15 * time.Second)) // by then a busy machine may have let another attempt pass
	if tried := statuses[http.StatusUnauthorized]; tried < 5 || tried > 5+waited || tried+statuses[http.StatusTooManyRequests] != 20 {
		t.Errorf("%v in %s, want 5 tried of 20", statuses, time.Since(began))
	}
	statuses = countResults(8, func() int { return f.login(home, email, secret).status })
	if diff := cmp.Diff(map[int]int{http.StatusOK: 8}, statuses); diff != "" {
		t.Errorf("right ones: %s", diff)
	}
}

func TestFailuresFromManyNetworksDelayUnknownNetworks(t *testing.T) {
	t.Parallel()
	f := start(t)
	for n := range 3 {
		for range 4 {
			f.wantStatus(f.login(fmt.Sprintf("10.0.%d.1", n), email, "wrong"), http.StatusUnauthorized)
		}
	}
	f.sql(`update login_failures set failures = failures + 87 where network = ''`) // as after a longer attack
	f.wantStatus(f.login("10.0.99.1", email, secret), http.StatusOK)
	f.sql(`delete from known_networks where network = '10.0.99.0/24'`)
	f.wantStatus(f.login("10.0.99.1", email, "wrong"), http.StatusUnauthorized) // the hundredth
	f.wantStatus(f.login("10.0.99.1", email, secret), http.StatusTooManyRequests)
	f.wantStatus(f.login(home, email, secret), http.StatusOK) // a network that the account knows
	f.wantStatus(f.login("10.0.99.1", "other@example.com", "wrong"), http.StatusUnauthorized)
	f.advance(15 * time.Second)
	f.wantStatus(f.login("10.0.99.1", email, "wrong"), http.StatusUnauthorized)
	f.wantStatus(f.login("10.0.98.1", email, secret), http.StatusTooManyRequests, 30)
	f.sql(`update login_failures set first_at = first_at - interval '1 hour'`)
	f.wantStatus(f.login("10.0.98.1", email, secret), http.StatusOK)
}

func TestOutdatedHashIsReplaced(t *testing.T) {
	t.Parallel()
	f := start(t)
	old, err := argon2id.CreateHash(secret, &argon2id.Params{Memory: 1024, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	f.sql(`update credentials set password_hash = $1`, old)
	f.wantStatus(f.login(home, email, "wrong"), http.StatusUnauthorized)
	f.sql(`do $$ begin assert (select password_hash like '%m=1024,%' from credentials), 'replaced'; end $$`)
	f.wantStatus(f.login(home, email, secret), http.StatusOK)
	f.sql(`do $$ begin assert (select password_hash like '$argon2id$v=19$m=19456,t=2,p=1$%' from credentials), 'not replaced'; end $$`)
	f.wantStatus(f.login(home, email, secret), http.StatusOK)
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	f := start(t)
	first := f.login(home, email, secret)
	f.wantStatus(first, http.StatusOK)
	other := f.login(home, email, secret)
	f.wantStatus(other, http.StatusOK)

	second := f.refresh(first.text("refresh_token"))
	f.wantStatus(second, http.StatusOK)
	claims, err := f.tokens.Verify(second.text("token"))
	if err != nil || claims.Username != "ada" || claims.Community != "gophers" {
		t.Errorf("claims %+v, error %v", claims, err)
	}
	if diff := cmp.Diff(first.body["data"], second.body["data"]); diff != "" {
		t.Error(diff)
	}
	third := f.refresh(second.text("refresh_token"))
	f.wantStatus(third, http.StatusOK)

	f.wantStatus(f.refresh(first.text("refresh_token")), http.StatusUnauthorized) // used again
	f.wantStatus(f.refresh(third.text("refresh_token")), http.StatusUnauthorized) // so the family is gone
	f.wantStatus(f.refresh(other.text("refresh_token")), http.StatusOK)           // and no other

	unknown, _ := token.NewRefresh()
	f.wantStatus(f.refresh(unknown), http.StatusUnauthorized)
	f.wantStatus(f.refresh("not one"), http.StatusUnauthorized)
	late := f.login(home, email, secret)
	f.sql(`update refresh_tokens set expires_at = now() where used_at is null`)
	f.wantStatus(f.refresh(late.text("refresh_token")), http.StatusUnauthorized)
}

// refreshedSession returns the answer of a login, and of the first refresh of that session.
func (f *fixture) refreshedSession() (session, next answer) {
	f.Helper()
	session = f.login(home, email, secret)
	next = f.refresh(session.text("refresh_token"))
	f.wantStatus(next, http.StatusOK)
	return session, next
}

// TestConcurrentRefreshesGetTheSameSuccessor: two tabs may refresh at the same time, and a client may lose the answer.
func TestConcurrentRefreshesGetTheSameSuccessor(t *testing.T) {
	t.Parallel()
	f := start(t)
	for range 5 {
		session := f.login(home, email, secret)
		answers := make(chan answer)
		for range 6 {
			go func() { answers <- f.refresh(session.text("refresh_token")) }()
		}
		successors, access := map[string]bool{}, map[string]bool{}
		for range 6 {
			a := <-answers
			f.wantStatus(a, http.StatusOK)
			successors[a.text("refresh_token")], access[a.text("token")] = true, true
		}
		if len(successors) != 1 || len(access) != 6 {
			t.Errorf("%d successors and %d access tokens, want 1 and 6", len(successors), len(access))
		}
		for successor := range successors {
			f.wantStatus(f.refresh(successor), http.StatusOK)
		}
		f.wantStatus(f.refresh(session.text("refresh_token")), http.StatusUnauthorized) // its successor was used
	}
}

func TestALateSecondRefreshEndsTheSession(t *testing.T) {
	t.Parallel()
	f := start(t)
	session, next := f.refreshedSession()
	f.sql(`update refresh_tokens set used_at = used_at - interval '10 s' where used_at is not null`)
	f.wantStatus(f.refresh(session.text("refresh_token")), http.StatusUnauthorized)
	f.wantStatus(f.refresh(next.text("refresh_token")), http.StatusUnauthorized) // the family is gone
}

// TestASecondRefreshAfterAKeyRotationGetsTheSameSuccessor: the answer made with the previous key was lost, and the present key
// would derive another successor.
func TestASecondRefreshAfterAKeyRotationGetsTheSameSuccessor(t *testing.T) {
	t.Parallel()
	f := start(t)
	session, next := f.refreshedSession()
	rotated := filepath.Join(t.TempDir(), "private.pem")
	if err := token.NewKeyPair(rotated, filepath.Join(f.keys, "jwks.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(rotated, filepath.Join(f.keys, "private.pem")); err != nil {
		t.Fatal(err)
	}
	if err := f.issuer.Ready(t.Context()); err != nil { // Ready reads the file again
		t.Fatal(err)
	}
	again := f.refresh(session.text("refresh_token"))
	f.wantStatus(again, http.StatusOK)
	if got, want := again.text("refresh_token"), next.text("refresh_token"); got != want {
		t.Error("another successor than the one whose answer was lost")
	}
}

// TestASessionIsNamedByItsTokens, and records where it began and was last used.
func TestASessionIsNamedByItsTokens(t *testing.T) {
	t.Parallel()
	f := start(t)
	first := f.login(home, email, secret)
	next := f.refresh(first.text("refresh_token"))
	f.wantStatus(next, http.StatusOK)
	var session int64
	for _, a := range []answer{first, next} {
		claims, err := f.tokens.Verify(a.text("token"))
		if err != nil || claims.Session == 0 || session != 0 && claims.Session != session {
			t.Errorf("claims %+v, error %v: expected one session", claims, err)
		}
		session = claims.Session
	}
	f.sql(`do $$ begin assert (select count(*) = 1 from sessions where id = ` + strconv.FormatInt(session, 10) + `
		and network = '203.0.113.0/24' and user_agent like 'Go-http-client%' and last_used_at > created_at and revoked_at is null), 'no session'; end $$`)
	f.wantStatus(f.post(home, "/auth/logout", `{"refresh_token":"`+next.text("refresh_token")+`"}`), http.StatusNoContent)
	f.sql(`do $$ begin assert (select revoked_at is not null from sessions where id = ` + strconv.FormatInt(session, 10) + `), 'not ended'; end $$`)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	f := start(t)
	session := f.login(home, email, secret)
	next := f.refresh(session.text("refresh_token"))
	f.wantStatus(f.post(home, "/auth/logout", `{"refresh_token":"`+next.text("refresh_token")+`"}`), http.StatusNoContent)
	f.wantStatus(f.refresh(next.text("refresh_token")), http.StatusUnauthorized)
	f.wantStatus(f.post(home, "/auth/logout", `{"refresh_token":"`+next.text("refresh_token")+`"}`), http.StatusNoContent)
	f.wantStatus(f.post(home, "/auth/logout", `{"refresh_token":"never was one"}`), http.StatusNoContent)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := start(t)
	for body, want := range map[string]int{
		``:                          http.StatusBadRequest,
		`[]`:                        http.StatusBadRequest,
		`{"email":"a@b.example"`:    http.StatusBadRequest,
		`{}`:                        http.StatusUnprocessableEntity,
		`{"email":"a@b.example"}`:   http.StatusUnprocessableEntity,
		`{"password":"x"}`:          http.StatusUnprocessableEntity,
		`{"email":7,"password":""}`: http.StatusUnprocessableEntity,
		`{"email":"a@b.example","password":"x","admin":true}`: http.StatusUnprocessableEntity,
		`{"email":"a\u0000@b.example","password":"x"}`:        http.StatusUnprocessableEntity,
		`{"email":"` + strings.Repeat("x", 70_000) + `"}`:     http.StatusRequestEntityTooLarge,
	} {
		f.wantStatus(f.post(home, "/auth/login", body), want)
	}
	for _, path := range []string{"/auth/refresh", "/auth/logout"} {
		f.wantStatus(f.post(home, path, `{}`), http.StatusUnprocessableEntity)
		f.wantStatus(f.post(home, path, `{"refresh_token":"x","all":true}`), http.StatusUnprocessableEntity)
		f.wantStatus(f.post(home, path, `null`), http.StatusBadRequest)
	}
}

// countResults runs do n times concurrently and counts the results.
func countResults(n int, do func() int) map[int]int {
	results := make(chan int)
	for range n {
		go func() { results <- do() }()
	}
	counts := map[int]int{}
	for range n {
		counts[<-results]++
	}
	return counts
}

func FuzzBody(f *testing.F) {
	w := start(f)
	for _, path := range []string{"login", "refresh", "logout"} {
		for _, seed := range []string{
			`{"email":"ada@example.com","password":"x"}`, `{"email":"\u0000","password":"\ud800"}`, `{"refresh_token":"AAAA"}`,
			`{"refresh_token":"` + strings.Repeat("A", 43) + `"}`, `{}`, `[]`, `nul`, `{"email":{}}`, "\xff", `{"email":"İ@K","password":"ﷺ"}`,
		} {
			f.Add(path, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if path != "login" && path != "refresh" && path != "logout" {
			t.Skip("not a path of login's")
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/auth/"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode >= http.StatusInternalServerError {
			text, _ := io.ReadAll(response.Body)
			t.Errorf("%s %q: %s %s", path, body, response.Status, text)
		}
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	})
}
