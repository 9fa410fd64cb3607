package main

import (
	"flag"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/token"
)

// mailToken returns the token of the newest mail to an address, as the function mail would send it; "" if it would send none.
func (w *fixture) mailToken(kind store.MailKind, email string) string {
	w.Helper()
	ids, err := pgtest.Column(w.Context(), w.data.URL(pgtest.Owner), `
		select data ->> 'id'
		from outbox
		join mail_requests r on r.id::text = data ->> 'id'
		where type = 'dev.warble.mail.requested.v1' and r.kind = $1 and r.address = address_hash($2)
		order by r.id desc
		limit 1`, string(kind), email)
	if err != nil || len(ids) != 1 {
		w.Fatalf("%d requests of mail to %s, %v", len(ids), email, err)
	}
	id, err := strconv.ParseInt(ids[0], 10, 64)
	if err != nil {
		w.Fatal(err)
	}
	secret, hash := token.NewMailed()
	job, send, err := w.data.Open(w.TB, pgtest.Mail).BeginMail(w.Context(), id, hash)
	switch {
	case err != nil:
		w.Fatal(err)
	case !send:
		return ""
	case job.Email != email || job.Kind != kind:
		w.Fatalf("a mail %+v, want %s to %s", job, kind, email)
	}
	return secret
}

// signedOut returns a client that is not signed in.
func (w *fixture) signedOut() person { return person{fixture: w} }

func TestVerifyEmail(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	verified := func() bool {
		return strings.Contains(ada.do(http.StatusOK, "GET /auth/export", ""), `"email_verified":true`)
	}
	if verified() {
		t.Error("verified before anybody has read a mail")
	}
	w.signedOut().do(http.StatusNoContent, "POST /auth/verify-email", `{"token":"`+w.mailToken(store.VerifyMail, ada.email)+`"}`)
	if !verified() {
		t.Error("not verified")
	}
}

// mailRequests returns how many mails of a kind were requested.
func (w *fixture) mailRequests(kind store.MailKind) int {
	w.Helper()
	ids, err := pgtest.Column(w.Context(), w.data.URL(pgtest.Owner), `
		select r.id::text
		from mail_requests r
		join outbox o on o.data ->> 'id' = r.id::text and o.type = 'dev.warble.mail.requested.v1'
		where r.kind = $1`, string(kind))
	if err != nil {
		w.Fatal(err)
	}
	return len(ids)
}

// ageMails moves all requested mails into the past by ago, as if they had been sent then.
func (w *fixture) ageMails(ago string) {
	w.Helper()
	w.sql(`update mail_requests set created_at = now() - $1::interval, finished_at = now() - $1::interval, claimed_until = null, sent = true`, ago)
}

const again = "POST /auth/verify-email/resend"

// TestAVerificationCanBeSentAgain: both links are valid, even after the other one has been used.
func TestAVerificationCanBeSentAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	first := w.mailToken(store.VerifyMail, ada.email)
	w.ageMails("10 s")
	ada.do(http.StatusAccepted, again, "")
	second := w.mailToken(store.VerifyMail, ada.email)
	if second == "" || second == first {
		t.Fatal("no second mail")
	}
	w.ageMails("10 s")
	for _, link := range []string{first, second} {
		w.signedOut().do(http.StatusNoContent, "POST /auth/verify-email", `{"token":"`+link+`"}`)
	}
	if answer := ada.do(http.StatusConflict, again, ""); !strings.Contains(answer, "is verified") {
		t.Error(answer)
	}
	if n := w.mailRequests(store.VerifyMail); n != 2 {
		t.Errorf("%d requests of mail, want 2", n)
	}
}

// TestAVerificationOnItsWayIsNotSentTwice, neither by a second click nor by concurrent requests.
func TestAVerificationOnItsWayIsNotSentTwice(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	expect := func(n int, when string) {
		t.Helper()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := w.db.AskVerification(t.Context(), store.Author{ID: ada.id}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		ada.do(http.StatusAccepted, again, "")
		if got := w.mailRequests(store.VerifyMail); got != n {
			t.Errorf("%s: %d requests of mail, want %d", when, got, n)
		}
	}
	expect(1, "the registration's waits")
	w.ageMails("10 s")
	expect(2, "it was sent")
	w.sql(`update mail_requests set created_at = now() - interval '2 minutes', claimed_until = now() + interval '1 minute', finished_at = null`)
	expect(2, "it is being sent")
	w.sql(`update mail_requests set claimed_until = null`)
	expect(3, "nobody has sent it for minutes")
}

func TestVerificationsAreLimited(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	for range 4 {
		w.ageMails("10 minutes")
		ada.do(http.StatusAccepted, again, "")
	}
	w.ageMails("10 minutes")
	if answer := ada.do(http.StatusTooManyRequests, again, ""); !regexp.MustCompile(`ask again in (2[89]\d\d|3000) s`).MatchString(answer) {
		t.Errorf("%s: want 50 minutes to wait", answer)
	}
	bob.do(http.StatusAccepted, again, "")
	w.signedOut().do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	w.ageMails("60 minutes")
	ada.do(http.StatusAccepted, again, "")
	if w.mailToken(store.VerifyMail, ada.email) == "" {
		t.Error("a mail that was asked for is not sent")
	}
}

func TestADeletedAccountGetsNoVerification(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	w.ageMails("10 s")
	ada.do(http.StatusNoContent, "DELETE /auth/sessions/"+ada.session, "")
	ada.do(http.StatusUnauthorized, again, "")
	bob.do(http.StatusAccepted, "DELETE /auth/account", `{"password":"`+secret+`"}`)
	bob.do(http.StatusUnauthorized, again, "")
	if n := w.mailRequests(store.VerifyMail); n != 1 { // ada's registration
		t.Errorf("%d requests of mail, want 1", n)
	}
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada, bob := w.register("ada"), w.register("bob")
	phone := ada.login()
	for range 5 { // so her logins from there must wait
		ada.do(http.StatusForbidden, "DELETE /auth/account", `{"password":"wrong"}`)
	}
	nobody := w.signedOut()
	nobody.do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	first := w.mailToken(store.ResetMail, ada.email)
	nobody.do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	second := w.mailToken(store.ResetMail, ada.email)
	const confirm, next = "POST /auth/password-reset/confirm", "an otter that sings"
	// A refused password does not use up the token.
	for _, refused := range []string{"short", "password1", "ada@example.com1"} {
		if answer := nobody.do(http.StatusUnprocessableEntity, confirm, `{"token":"`+second+`","new":"`+refused+`"}`); !strings.Contains(answer, `"field":"new"`) {
			t.Error(answer)
		}
	}
	nobody.do(http.StatusNoContent, confirm, `{"token":"`+second+`","new":"`+next+`"}`)
	if ada.refreshes() || phone.refreshes() || !bob.refreshes() {
		t.Error("expected all of ada's sessions to end, and nobody else's")
	}
	ada.do(http.StatusUnauthorized, "DELETE /auth/sessions", "")
	for _, spent := range []string{first, second} {
		nobody.do(http.StatusUnprocessableEntity, confirm, `{"token":"`+spent+`","new":"`+next+`s"}`)
	}
	again := ada.login()
	again.do(http.StatusNoContent, "PUT /auth/password", `{"current":"`+next+`","new":"`+secret+`"}`)
	if export := again.do(http.StatusOK, "GET /auth/export", ""); !strings.Contains(export, `"email_verified":true`) {
		t.Errorf("who has read the mail has the address: %.200s", export)
	}
}

// TestALoginThatBeganBeforeAResetLeavesNoSession: somebody who keeps trying a known password could be at the comparison of hashes
// while the password changes.
func TestALoginThatBeganBeforeAResetLeavesNoSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	attempt, err := w.db.BeginLogin(t.Context(), ada.email, store.Client{Network: "198.51.100.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	w.signedOut().do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	w.signedOut().do(http.StatusNoContent, "POST /auth/password-reset/confirm", `{"token":"`+w.mailToken(store.ResetMail, ada.email)+`","new":"an otter that sings"}`)
	refresh, hash := token.NewRefresh()
	if session, err := w.db.FinishLogin(t.Context(), attempt, hash, ""); err == nil {
		t.Errorf("a session %d with the old password", session)
	}
	if ada.refresh = refresh; ada.refreshes() {
		t.Error("its refresh token counts")
	}
}

// pairs is how many pairs of requests TestAResetTakesAsLongForAnUnknownAddress times. With 2000, a difference in 3 percent of the
// pairs can be told from chance.
var pairs = flag.Int("pairs", 100, "pairs of requests of a new password to time")

// TestAResetTakesAsLongForAnUnknownAddress alternates between an address with an account and one without. It counts the pairs in which
// the first took longer, which must be half of them, except for chance.
func TestAResetTakesAsLongForAnUnknownAddress(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	nobody := w.signedOut()
	took := func(email string) time.Duration {
		began := time.Now()
		nobody.do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+email+`"}`)
		return time.Since(began)
	}
	longer := 0
	for n := range *pairs {
		var known, unknown time.Duration
		if n%2 == 0 { // the second request finds warm caches
			known, unknown = took(ada.email), took("eve@example.com")
		} else {
			unknown, known = took("eve@example.com"), took(ada.email)
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
	z := (float64(longer) - float64(*pairs)/2) / (math.Sqrt(float64(*pairs)) / 2)
	if math.Abs(z) > limit {
		t.Errorf("the address that somebody has took longer in %d of %d pairs (z = %.2f): expected |z| of %.2f at most", longer, *pairs, z, limit)
	}
	t.Logf("the address that somebody has took longer in %d of %d pairs (z = %.2f)", longer, *pairs, z)
}

// TestAChangedPasswordInvalidatesSentLinks, because somebody else may have read them.
func TestAChangedPasswordInvalidatesSentLinks(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	w.signedOut().do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	sent := w.mailToken(store.ResetMail, ada.email)
	ada.do(http.StatusNoContent, "PUT /auth/password", `{"current":"`+secret+`","new":"an otter that sings"}`)
	w.signedOut().do(http.StatusUnprocessableEntity, "POST /auth/password-reset/confirm", `{"token":"`+sent+`","new":"an otter that hums"}`)
}

// TestAllInvalidTokensGetTheSameProblem, byte for byte except for the request's id.
func TestAllInvalidTokensGetTheSameProblem(t *testing.T) {
	t.Parallel()
	w := start(t)
	nobody := w.signedOut()
	other, _ := token.NewMailed()
	for operation, kind := range map[string]store.MailKind{"verify-email": store.VerifyMail, "password-reset/confirm": store.ResetMail} {
		send := func(token string, status int) string {
			body := `{"token":"` + token + `"}`
			if kind == store.ResetMail {
				body = `{"token":"` + token + `","new":"an otter that sings"}`
			}
			return nobody.do(status, "POST /auth/"+operation, body)
		}
		fresh := func(name string) string {
			p := w.register(name)
			nobody.do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+p.email+`"}`)
			return w.mailToken(kind, p.email)
		}
		names := strings.ReplaceAll(string(kind), "-", "")
		used, expired, gone := fresh(names+"u"), fresh(names+"e"), fresh(names+"g")
		send(used, http.StatusNoContent)
		hash, _ := token.HashMailed(expired)
		w.sql(`update mail_tokens set created_at = now() - case when $2 = 'reset' then interval '1 hour' else interval '1 day' end where token_hash = $1`, hash, string(kind))
		w.sql(`update users set deleted_at = now() where username = $1`, names+"g")
		ofOtherKind := w.mailToken(map[store.MailKind]store.MailKind{store.VerifyMail: store.ResetMail, store.ResetMail: store.VerifyMail}[kind], names+"e@example.com")
		answers := make(map[string]bool)
		for name, text := range map[string]string{
			"used": used, "expired": expired, "of an account that is gone": gone, "of another kind": ofOtherKind, "never made": other, "no token": "x", "too long": other + other,
		} {
			if text == "" {
				t.Fatalf("%s: no mail", name)
			}
			answer := send(text, http.StatusUnprocessableEntity)
			_, rest, _ := strings.Cut(answer, `"errors"`)
			answers[rest] = true
			if !strings.Contains(answer, "token is not valid") {
				t.Errorf("%s: %s", name, answer)
			}
		}
		if len(answers) != 1 {
			t.Errorf("%s: expected one answer: %v", operation, answers)
		}
	}
}

func TestATokenIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	w.signedOut().do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	hashed, ok := token.HashMailed(w.mailToken(store.ResetMail, ada.email))
	if !ok {
		t.Fatal("no token")
	}
	var (
		all sync.WaitGroup
		mu  sync.Mutex
		n   int
	)
	for range 8 {
		all.Go(func() {
			if w.db.ResetPassword(t.Context(), hashed, "x") == nil {
				mu.Lock()
				defer mu.Unlock()
				n++
			}
		})
	}
	all.Wait()
	if n != 1 {
		t.Errorf("used %d times, want once", n)
	}
}

func TestRequestsForMailAreValidated(t *testing.T) {
	t.Parallel()
	nobody := start(t).signedOut()
	for _, c := range [][2]string{
		{"POST /auth/password-reset", `{"email":""}`},
		{"POST /auth/password-reset", `{"email":"ada"}`},
		{"POST /auth/password-reset", `{"email":"` + strings.Repeat("a", 250) + `@a.bc"}`},
		{"POST /auth/password-reset", `{}`},
		{"POST /auth/verify-email", `{}`},
		{"POST /auth/password-reset/confirm", `{"token":"x"}`},
		{"POST /auth/password-reset/confirm", `{"new":"an otter that sings"}`},
	} {
		nobody.do(http.StatusUnprocessableEntity, c[0], c[1])
	}
	for _, email := range []string{"nobody@example.com", "not quite@an address"} {
		nobody.do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+email+`"}`)
	}
}

// TestADeletedAccountLeavesNoMail: neither a request for mail nor a token.
func TestADeletedAccountLeavesNoMail(t *testing.T) {
	t.Parallel()
	w := start(t)
	ada := w.register("ada")
	bob := w.register("bob")
	w.signedOut().do(http.StatusAccepted, "POST /auth/password-reset", `{"email":"`+ada.email+`"}`)
	w.mailToken(store.ResetMail, ada.email)
	w.mailToken(store.VerifyMail, bob.email)
	ada.do(http.StatusAccepted, "DELETE /auth/account", `{"password":"`+secret+`"}`)
	left, err := pgtest.Column(t.Context(), w.data.URL(pgtest.Owner), `
		select u.username
		from mail_requests r
		join users u on u.id = r.user_id
		join mail_tokens t on t.request = r.id`)
	if err != nil || len(left) != 1 || left[0] != "bob" {
		t.Errorf("%v, %v: want bob's alone", left, err)
	}
}
