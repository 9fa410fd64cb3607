package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/token"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// rig is the function with its own database and its own mail server.
type rig struct {
	*testing.T
	data   pgtest.Database
	auth   *store.DB // as register and account open it
	office *apitest.PostOffice
	url    string
}

func start(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, data: pgtest.New(t), office: apitest.OpenPostOffice(t)}
	r.auth = r.data.Open(t, pgtest.Auth)
	r.url = r.serve("SMTP_URL="+r.office.URL, "MAIL_FROM=Warble <warble@example.com>", "PUBLIC_URL=https://warble.example.com/")
	return r
}

// serve serves the function with other settings.
func (r *rig) serve(settings ...string) (url string) {
	r.Helper()
	f := function.NewTest(r.Output(), settings...)
	db := r.data.Open(r.T, pgtest.Mail)
	server := httptest.NewServer(f.Handler(New(db, SenderFromEnv(f.Env, f.Telemetry), f.Telemetry), db))
	r.Cleanup(server.Close)
	if err := f.Env.Err(); err != nil {
		r.Fatal(err)
	}
	return server.URL
}

func (r *rig) register(email string) {
	r.Helper()
	name, _, _ := strings.Cut(email, "@")
	if _, err := r.auth.CreateAccount(r.Context(), store.NewAccount{
		Email: email, PasswordHash: "x", Username: name, Name: name, RefreshHash: []byte(email),
	}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) reset(email string) {
	r.Helper()
	if err := r.auth.RequestReset(r.Context(), email); err != nil {
		r.Fatal(err)
	}
}

// takeRequests takes the data of the waiting events from the outbox, the oldest first.
func (r *rig) takeRequests() []string {
	r.Helper()
	found, err := pgtest.Column(r.Context(), r.data.URL(pgtest.Owner), `
		with gone as (delete from outbox where type = 'dev.warble.mail.requested.v1' returning id, data)
		select data::text from gone order by id`)
	if err != nil {
		r.Fatal(err)
	}
	return found
}

func (r *rig) sql(statement string, args ...any) {
	r.Helper()
	if err := pgtest.Exec(r.Context(), r.data.URL(pgtest.Owner), statement, args...); err != nil {
		r.Fatal(err)
	}
}

// post sends an event as the broker does, and returns the answer's status.
func (r *rig) post(kind, data string) int {
	r.Helper()
	e := event.New()
	e.SetID("1")
	e.SetSource("urn:warble:outbox")
	e.SetType(kind)
	if err := e.SetData(event.ApplicationJSON, []byte(data)); err != nil {
		r.Fatal(err)
	}
	request, err := cehttp.NewHTTPRequestFromEvent(r.Context(), r.url, e)
	if err != nil {
		r.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.Fatal(err)
	}
	if answer.StatusCode/100 == 2 && len(body) > 0 {
		r.Errorf("%s answered %q: a body would be taken for an event", data, body)
	}
	return answer.StatusCode
}

// deliver sends all waiting events, and checks that each is accepted.
func (r *rig) deliver() {
	r.Helper()
	for _, data := range r.takeRequests() {
		if status := r.post(eventType, data); status != http.StatusAccepted {
			r.Fatalf("%s: %d, want 202", data, status)
		}
	}
}

// tokenHash returns the hash of the token in a letter's link.
func (r *rig) tokenHash(l apitest.Letter, kind store.MailKind) []byte {
	r.Helper()
	page, got, text := l.Link()
	hash, ok := token.HashMailed(text)
	if page != "https://warble.example.com/confirm" || got != string(kind) || !ok {
		r.Fatalf("no link of kind %s in %s", kind, l.Text)
	}
	return hash
}

func TestARegistrationIsVerifiedByMail(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.register("Ada@example.com")
	r.deliver()
	got := r.office.Letters()
	if len(got) != 1 || got[0].To != "Ada@example.com" || got[0].From != "warble@example.com" {
		t.Fatalf("%+v", got)
	}
	hash := r.tokenHash(got[0], store.VerifyMail)
	if err := r.auth.ResetPassword(t.Context(), hash, "y"); err == nil {
		t.Error("a token that verifies has reset the password")
	}
	if err := r.auth.VerifyEmail(t.Context(), hash); err != nil {
		t.Error(err)
	}
	if err := r.auth.VerifyEmail(t.Context(), hash); err == nil {
		t.Error("a token was used twice")
	}
}

// TestNobodyCanTellWhetherAnAddressIsKnown: a known and an unknown address cause the same row and the same event, but only the
// known address gets mail.
func TestNobodyCanTellWhetherAnAddressIsKnown(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.register("ada@example.com")
	r.takeRequests() // of the registration, which is not delivered
	r.reset("ADA@example.com")
	r.reset("nobody@example.com")
	waiting := r.takeRequests()
	if len(waiting) != 2 {
		t.Fatalf("%d events, want 2", len(waiting))
	}
	for _, data := range waiting {
		if !regexp.MustCompile(`^\{"id": "[0-9]+"\}$`).MatchString(data) {
			t.Errorf("the event has %s: want the number of the request and nothing else", data)
		}
		if status := r.post(eventType, data); status != http.StatusAccepted {
			t.Errorf("%d, want 202", status)
		}
	}
	got := r.office.Letters()
	if len(got) != 1 || got[0].To != "ada@example.com" {
		t.Fatalf("%+v, want one to ada", got)
	}
	if err := r.auth.ResetPassword(t.Context(), r.tokenHash(got[0], store.ResetMail), "y"); err != nil {
		t.Error(err)
	}
}

func TestARepeatedEventSendsNothing(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.register("ada@example.com")
	data := r.takeRequests()[0]
	release := r.office.Hold()
	var all sync.WaitGroup
	statuses := make([]int, 8) // at the same time: one sends, the others must try again
	for n := range statuses {
		all.Go(func() { statuses[n] = r.post(eventType, data) })
	}
	deadline := time.Now().Add(time.Minute)
	for busy := func() int {
		found, err := pgtest.Column(t.Context(), r.data.URL(pgtest.Owner), `select 'claimed' from mail_requests where claimed_until > now()`)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}; busy() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody claims the request")
		}
	}
	if status := r.post(eventType, data); status != http.StatusServiceUnavailable {
		t.Errorf("while it is being sent: %d, want 503", status)
	}
	release()
	all.Wait()
	slices.Sort(statuses)
	if statuses[0] != http.StatusAccepted {
		t.Errorf("%v: want a 202", statuses)
	}
	if status := r.post(eventType, data); status != http.StatusAccepted {
		t.Errorf("after it was sent: %d, want 202", status)
	}
	if got := r.office.Letters(); len(got) != 1 {
		t.Errorf("%d mails, want 1", len(got))
	}
}

func TestAFailureIsTriedAgainButARefusalIsNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer *smtp.SMTPError
		again  int // the status of the first try
		mails  int // after the second try
	}{
		"busy":        {&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"}, http.StatusServiceUnavailable, 1},
		"no mailbox":  {&smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}, http.StatusAccepted, 0},
		"no greeting": {nil, http.StatusServiceUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.register("ada@example.com")
			data := r.takeRequests()[0]
			right := r.url
			if c.answer != nil {
				r.office.Answer(c.answer)
			} else {
				closed := httptest.NewServer(nil)
				closed.Close()
				r.url = r.serve("SMTP_URL=smtp://"+strings.TrimPrefix(closed.URL, "http://")+"?tls=none", "MAIL_FROM=w@example.com", "PUBLIC_URL=https://warble.example.com")
			}
			if status := r.post(eventType, data); status != c.again {
				t.Errorf("first: %d, want %d", status, c.again)
			}
			r.url = right
			if status := r.post(eventType, data); status != http.StatusAccepted {
				t.Errorf("again: %d, want 202", status)
			}
			if got := r.office.Letters(); len(got) != c.mails {
				t.Errorf("%d mails, want %d", len(got), c.mails)
			}
		})
	}
}

// An unfinished row of mail_requests is the dead letter of its mail. The statement of docs/day-two.md puts its event into the outbox
// again, and no event of a request that is finished or older than a day.
func TestMailThatWasNotSentIsRequestedAgainWithTheStatementOfDayTwo(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/day-two.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)\n## Mail that was not sent\n[^#]*?\n```sql\n(.*?)```\n").FindSubmatch(page)
	if found == nil {
		t.Fatal("docs/day-two.md has no statement below \"Mail that was not sent\"")
	}
	again := string(found[1])
	r := start(t)
	r.register("carol@example.com")
	r.sql(`update mail_requests set created_at = now() - interval '25 hours'`)
	r.takeRequests() // the event is lost
	r.register("bob@example.com")
	r.deliver()
	r.register("ada@example.com")
	data := r.takeRequests()
	r.office.Answer(&smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "later"})
	if status := r.post(eventType, data[0]); status != http.StatusServiceUnavailable {
		t.Fatalf("%d, want 503", status)
	} // then the broker gives up

	r.sql(again)
	waiting := r.takeRequests()
	if diff := cmp.Diff(data, waiting); diff != "" {
		t.Fatalf("the events of ada's request (-) and those that wait after the statement (+):\n%s", diff)
	}
	for _, data := range []string{waiting[0], waiting[0]} { // it may be delivered twice, too
		if status := r.post(eventType, data); status != http.StatusAccepted {
			t.Errorf("%d, want 202", status)
		}
	}
	var to []string
	for _, letter := range r.office.Letters() {
		to = append(to, letter.To)
	}
	if diff := cmp.Diff([]string{"bob@example.com", "ada@example.com"}, to); diff != "" {
		t.Errorf("mails: %s", diff)
	}
	r.sql(again)
	if waiting := r.takeRequests(); len(waiting) > 0 {
		t.Errorf("%q wait after all mail was sent, want none", waiting)
	}
}

// TestTheTokensOfAllMailsOfARequestAreValid: it may be unknown whether the first mail arrived, so the second mail's token must not
// invalidate the first's.
func TestTheTokensOfAllMailsOfARequestAreValid(t *testing.T) {
	t.Parallel()
	for first := range 2 {
		r := start(t)
		r.register("ada@example.com")
		data := r.takeRequests()[0]
		r.post(eventType, data)
		r.sql(`update mail_requests set finished_at = null, sent = false`) // as if a process had been killed before writing that
		r.post(eventType, data)
		got := r.office.Letters()
		if len(got) != 2 {
			t.Fatalf("%d mails, want 2", len(got))
		}
		if err := r.auth.VerifyEmail(t.Context(), r.tokenHash(got[first], store.VerifyMail)); err != nil {
			t.Errorf("the token of mail %d: %v", first, err)
		}
		if err := r.auth.VerifyEmail(t.Context(), r.tokenHash(got[1-first], store.VerifyMail)); err == nil {
			t.Error("both tokens were used")
		}
	}
}

func TestMailsToAnAddressAreLimited(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.register("ada@example.com")
	for range 12 {
		r.reset("ada@example.com")
	}
	var all sync.WaitGroup
	for _, data := range r.takeRequests() {
		all.Go(func() { r.post(eventType, data) })
	}
	all.Wait()
	if got := r.office.Letters(); len(got) != 6 { // the verification and five resets
		t.Errorf("%d mails, want 6", len(got))
	}
	r.sql(`update mail_requests set finished_at = finished_at - interval '1 hour'`)
	r.reset("ada@example.com")
	r.deliver()
	if got := r.office.Letters(); len(got) != 7 {
		t.Errorf("%d mails after an hour, want 7", len(got))
	}
}

func TestOldRequestsAndThoseOfDeletedAccountsAreNotSent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"a day old":           `update mail_requests set created_at = now() - interval '25 hours'`,
		"verified meanwhile":  `update credentials set verified_at = now()`,
		"the account deleted": `update users set deleted_at = now()`,
		"no such request":     `delete from mail_requests`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.register("ada@example.com")
			r.sql(change)
			r.deliver()
			if got := r.office.Letters(); len(got) != 0 {
				t.Errorf("%+v, want nothing", got)
			}
		})
	}
}

func TestOnlyEventsThatRequestMailAreAccepted(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, c := range []struct {
		kind, data string
		want       int
	}{
		{"dev.warble.tweet.posted.v1", `{"id":"1"}`, http.StatusUnprocessableEntity},
		{eventType, `{"id":"x"}`, http.StatusUnprocessableEntity},
		{eventType, `{}`, http.StatusUnprocessableEntity},
		{eventType, `[]`, http.StatusBadRequest},
		{eventType, `{"id":"1"}`, http.StatusAccepted},
	} {
		if got := r.post(c.kind, c.data); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.kind, c.data, got, c.want)
		}
	}
	answer, err := http.Post(r.url, "application/json", strings.NewReader("{}")) //nolint:noctx // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("no CloudEvent: %d, want 400", answer.StatusCode)
	}
}

func TestWithoutAServerNothingIsSentOrKept(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.url = r.serve()
	r.register("ada@example.com")
	r.deliver()
	if got := r.office.Letters(); len(got) != 0 {
		t.Errorf("%+v, want nothing", got)
	}
}

func TestTheLogContainsNoAddressAndNoToken(t *testing.T) {
	t.Parallel()
	r := start(t)
	var log lines
	f := function.NewTest(&log, "SMTP_URL="+r.office.URL, "MAIL_FROM=w@example.com", "PUBLIC_URL=https://warble.example.com")
	db := r.data.Open(t, pgtest.Mail)
	server := httptest.NewServer(f.Handler(New(db, SenderFromEnv(f.Env, f.Telemetry), f.Telemetry), db))
	t.Cleanup(server.Close)
	r.url = server.URL
	r.register("ada@example.com")
	data := r.takeRequests()[0]
	refusal := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not now, ada@example.com"}
	r.office.Answer(refusal, &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no ada@example.com"})
	r.post(eventType, data)
	r.post(eventType, data)
	text := log.String()
	if !strings.Contains(text, "451") || !strings.Contains(text, "550") {
		t.Errorf("the log does not say what the server answered: %s", text)
	}
	if strings.Contains(text, "ada") {
		t.Errorf("the log names the address: %s", text)
	}
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestSettingsAreCheckedByName(t *testing.T) {
	t.Parallel()
	const public, from = "PUBLIC_URL=https://warble.example.com", "MAIL_FROM=w@example.com"
	for name, c := range map[string]struct {
		settings []string
		wrong    string // the setting in the error; "" for no error
	}{
		"nothing":                 {nil, ""},
		"all":                     {[]string{"SMTP_URL=smtp://u:p@mail.example.com:587", from, public}, ""},
		"from the start":          {[]string{"SMTP_URL=smtps://u:p@mail.example.com", from, public}, ""},
		"without TLS":             {[]string{"SMTP_URL=smtp://mail.example.com?tls=none", from, public}, ""},
		"a password without TLS":  {[]string{"SMTP_URL=smtp://u:p@mail.example.com?tls=none", from, public}, "SMTP_URL"},
		"another TLS":             {[]string{"SMTP_URL=smtp://mail.example.com?tls=maybe", from, public}, "SMTP_URL"},
		"no host":                 {[]string{"SMTP_URL=smtp://", from, public}, "SMTP_URL"},
		"no URL":                  {[]string{"SMTP_URL=mail.example.com", from, public}, "SMTP_URL"},
		"nobody it is from":       {[]string{"SMTP_URL=smtp://mail.example.com", public}, "MAIL_FROM"},
		"from no address":         {[]string{"SMTP_URL=smtp://mail.example.com", "MAIL_FROM=x", public}, "MAIL_FROM"},
		"no public URL":           {[]string{"SMTP_URL=smtp://mail.example.com", from}, "PUBLIC_URL"},
		"a public URL of no site": {[]string{"SMTP_URL=smtp://mail.example.com", from, "PUBLIC_URL=warble"}, "PUBLIC_URL"},
		"the log":                 {[]string{"SMTP_URL=log:", from, public}, ""},
		"the log of a whole site": {[]string{"SMTP_URL=log:", from, public, "KUBERNETES_SERVICE_HOST=10.0.0.1"}, "SMTP_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := function.NewTest(t.Output(), c.settings...)
			SenderFromEnv(f.Env, f.Telemetry)
			err := f.Env.Err()
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%v: want an error about %q", err, c.wrong)
			}
			if err != nil && strings.Contains(err.Error(), "u:p@") {
				t.Errorf("%v has the password", err)
			}
		})
	}
}
