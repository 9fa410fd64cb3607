//go:build e2e

package e2e_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"warble/shared/apitest"
	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/token"
)

var (
	kills = flag.Int("kills", 0, "how many processes TestKillsLoseNothing kills; other tests have no local run then")
	seed  = flag.Uint64("seed", 0, "which processes it kills, and when; 0 for other ones each time")
)

const (
	killWriters  = 8
	killSources  = 20               // tweets that all of them retweet and like
	perKill      = 5                // acknowledged writes between two kills, so that each kill interrupts work
	killPause    = 500              // greatest pause after those writes, in milliseconds
	killLimit    = 2 * time.Minute  // for those writes
	writeLimit   = 10 * time.Minute // for a write to be acknowledged
	lettersLimit = 5 * time.Minute  // for the mail of all requests: a claim ends after a minute
)

// Functions, the relay, PgBouncer and PostgreSQL are killed at random, again and again, while people make all kinds of writes. Every
// acknowledged write is stored exactly once. Other writes are stored once or not at all. A subscriber gets events of all writes, for each
// user in the order of the writes.
func TestKillsLoseNothing(t *testing.T) {
	if *kills == 0 {
		t.Fatal("-kills: expected how many processes to kill, as make kills says")
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0)) //nolint:gosec // to be repeated
	s := newKillable(t)

	author := register(t, "")
	for n := range killSources {
		s.sources = append(s.sources, author.post(fmt.Sprint("source ", n)))
	}
	var (
		people  [killWriters]*person
		working sync.WaitGroup
		over    atomic.Bool
	)
	for n := range people {
		people[n] = newPerson(s, register(t, "gophers"), n)
	}
	for _, p := range people {
		working.Go(func() {
			for !over.Load() && !t.Failed() {
				p.work()
			}
		})
	}
	killed := make(map[string]int)
	victims := slices.Sorted(maps.Keys(s.victims))
	for n := 0; n < *kills && !t.Failed(); {
		before := s.acknowledged.Load()
		eventually(t, "acknowledged writes", killLimit, func() bool {
			s.pooler.revive()
			return s.acknowledged.Load() >= before+perKill
		})
		time.Sleep(time.Duration(random.IntN(killPause)) * time.Millisecond)
		victim := victims[random.IntN(len(victims))]
		if s.victims[victim]() {
			n++
			killed[victim]++
		}
	}
	over.Store(true)
	ended := make(chan struct{})
	go func() { working.Wait(); close(ended) }()
	eventually(t, "the end of all work", writeLimit, func() bool {
		s.pooler.revive()
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	t.Logf("%d kills, %v; %d writes acknowledged, %d sent again", *kills, killed, s.acknowledged.Load(), s.again.Load())
	if s.again.Load() == 0 {
		t.Error("no request noticed a kill: it proved nothing")
	}
	eventually(t, "an empty outbox", killLimit, func() bool { return len(s.rows(`select id::text from outbox`)) == 0 })
	s.compare(people[:])
	s.compareEvents()
	s.compareMail(people[:])
}

// killable is a local run on a durable server, behind a pooler, with a subscriber.
type killable struct {
	t          *testing.T
	run        *apitest.Local
	server     *pgserver.Server
	pooler     *pooler
	office     *apitest.PostOffice
	folder     string
	victims    map[string]func() bool // by name; false if there is nothing to kill
	sources    []string
	subscriber *subscriber

	acknowledged, again atomic.Int64
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	s := &killable{t: t}
	var err error
	if s.folder, err = os.MkdirTemp("", "warble-e2e-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.folder) })
	s.start()
	t.Cleanup(func() { _ = s.server.Stop() })
	s.pooler = pgbouncer(t, s.server)
	s.office = apitest.OpenPostOffice(t)
	s.subscriber = startSubscriber(t)
	if s.run, err = apitest.StartLocal(t.Context(), "DATABASE_DIRECT_URL="+s.server.Superuser("postgres"), "DATABASE_URL="+s.pooler.url("pooled"),
		"K_SINK="+s.subscriber.url, "RELAY_LEASE=2s", "FEATURES=likes", "SMTP_URL="+s.office.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.run.Stop(); err != nil {
			t.Error(err)
		}
	})
	warble.url = s.run.URL
	s.victims = map[string]func() bool{
		"PgBouncer": func() bool {
			s.pooler.end(syscall.SIGKILL)
			s.pooler.start()
			return true
		},
		"PostgreSQL": func() bool {
			if err := s.server.Crash(); err != nil {
				t.Error(err)
			}
			s.start()
			return true
		},
	}
	for _, function := range []string{"edge", "register", "login", "account", "mail", "tweet", "retweet", "like", "feedback", "relay"} {
		s.victims[function] = func() bool {
			pids := s.run.PIDs(function)
			return len(pids) == 1 && syscall.Kill(pids[0], syscall.SIGKILL) == nil
		}
	}
	return s
}

func (s *killable) start() {
	s.t.Helper()
	var err error
	if s.server, err = pgserver.Start(context.WithoutCancel(s.t.Context()), s.folder, pgserver.Options{Durable: true}); err != nil {
		s.t.Fatal(err)
	}
}

// rows runs a query, and returns its rows.
func (s *killable) rows(sql string, args ...any) (lines []string) {
	s.t.Helper()
	conn, err := store.Connect(s.t.Context(), s.server.Superuser("postgres"), time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context()) //nolint:errcheck // nothing is pending on it
	rows, _ := conn.Query(s.t.Context(), sql, args...)
	lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return lines
}

// person sends writes, and records the acknowledged ones.
type person struct {
	*killable
	user
	n, step  int
	password string // the last one that was acknowledged

	tweets   map[string]string // texts by id; of deleted ones, none
	maybe    map[string]bool   // texts of tweets that were sent once, and not acknowledged
	retweets map[string]string // ids by source
	likes    map[string]bool   // by tweet
	resets   []string          // emails that asked for a new password
	opinions []string
	users    map[string]string // emails by id
	ended    []string          // hashes of the refresh tokens of sessions that were ended
}

func newPerson(s *killable, u *user, n int) *person {
	return &person{killable: s, user: *u, n: n, password: password, tweets: make(map[string]string), maybe: make(map[string]bool), retweets: make(map[string]string),
		likes: make(map[string]bool), users: map[string]string{u.id: u.email}}
}

// send sends a request until it is acknowledged, and returns the number of attempts. Every other answer must be a 503, a 409
// while the attempt before still runs, or a closed connection.
func (p *person) send(method, path, body string, want []int, headers ...string) (a answer, tries int) {
	for deadline := time.Now().Add(writeLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		tries++
		a, err := p.try(method, path, body, headers...)
		switch {
		case err == nil && slices.Contains(want, a.status):
			p.acknowledged.Add(1)
			return a, tries
		case err == nil && (a.status != http.StatusServiceUnavailable && a.status != http.StatusConflict || a.header.Get("Retry-After") == ""):
			p.killable.t.Errorf("%s %s: %d %s, want %v or 503", method, path, a.status, a.body, want)
			return a, tries
		}
		p.again.Add(1)
	}
	p.killable.t.Errorf("%s %s: not acknowledged within %s", method, path, writeLimit)
	return answer{}, tries
}

// field returns a member of an answer's data.
func (p *person) field(a answer, member string) string {
	var got struct{ Data map[string]any }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		p.killable.t.Errorf("%s: %v", a.body, err)
	}
	return fmt.Sprint(got.Data[member])
}

// work makes writes of all kinds, one after the other.
func (p *person) work() {
	p.step++
	key := []string{"Idempotency-Key", strconv.Itoa(p.step)}
	text := fmt.Sprintf("%s, step %d", p.name, p.step)
	source := p.sources[(p.n+p.step/10)%len(p.sources)]
	ok, created := []int{http.StatusOK}, []int{http.StatusCreated}
	switch p.step % 10 {
	case 0, 1:
		a, _ := p.send("POST", "/2/tweets", object("text", text), created, key...)
		p.tweets[p.field(a, "id")] = text
	case 2:
		if a, err := p.try("POST", "/2/tweets", object("text", text)); err == nil && a.status == http.StatusCreated {
			p.acknowledged.Add(1)
			p.tweets[p.field(a, "id")] = text
		} else {
			p.maybe[text] = true
		}
	case 3:
		a, _ := p.send("POST", p.path("/retweets"), object("tweet_id", source), ok, key...)
		p.retweets[source] = p.field(a, "rest_id")
	case 4:
		p.send("POST", p.path("/likes"), object("tweet_id", source), ok)
		p.likes[source] = true
	case 5:
		p.send("POST", "/feedback", fmt.Sprintf(`{"score": 4, "text": %q}`, text), created, key...)
		p.opinions = append(p.opinions, text)
	case 6:
		if p.step%20 < 10 {
			p.send("DELETE", p.path("/likes/"+source), "", ok)
			delete(p.likes, source)
		}
	case 7:
		if p.step%20 < 10 {
			p.send("DELETE", p.path("/retweets/"+source), "", ok)
			delete(p.retweets, source)
		}
	case 8:
		for id, text := range p.tweets {
			if text == "" {
				continue
			}
			// If the answer to the first attempt was lost, the deletion may be done already.
			if a, tries := p.send("DELETE", "/2/tweets/"+id, "", []int{http.StatusOK, http.StatusNotFound}); a.status == http.StatusNotFound && tries == 1 {
				p.killable.t.Errorf("tweet %s was acknowledged, and is not there", id)
			}
			p.tweets[id] = ""
			break
		}
	case 9:
		switch p.step / 10 % 4 {
		case 0:
			p.enter()
		case 2:
			p.changePassword()
		}
	}
}

// enter registers somebody, logs them in and refreshes their session. A registration is repeated only if it was
// refused. A session may be lost with the last second before a kill; then a new login is made.
func (p *person) enter() {
	name := fmt.Sprintf("p%dx%d", p.n, p.step)
	email := name + "@example.org"
	a, err := (&user{t: p.user.t}).try("POST", "/auth/register", object("name", name, "username", name, "email", email, "password", password))
	if err != nil || a.status != http.StatusCreated {
		return
	}
	p.acknowledged.Add(1)
	p.users[p.field(a, "id")] = email
	stranger := *p
	stranger.user = user{t: p.user.t}
	a, _ = stranger.send("POST", "/auth/login", object("email", email, "password", password), []int{http.StatusOK})
	var entered session
	if err := json.Unmarshal([]byte(a.body), &entered); err != nil {
		p.killable.t.Errorf("%s: %v", a.body, err)
	}
	stranger.send("POST", "/auth/password-reset", object("email", email), []int{http.StatusAccepted})
	p.resets = append(p.resets, email)
	stranger.send("POST", "/auth/refresh", object("refresh_token", entered.RefreshToken), []int{http.StatusOK, http.StatusUnauthorized})
}

// changePassword changes the person's own password, logs in with the new one, logs out and ends all other sessions. If the answer to
// the first change was lost, the second change is refused, because the current password is the new one already.
func (p *person) changePassword() {
	next := fmt.Sprintf("%s-%d", password, p.step)
	a, tries := p.send("PUT", "/auth/password", object("current", p.password, "new", next), []int{http.StatusNoContent, http.StatusForbidden})
	if a.status == http.StatusForbidden && tries == 1 {
		p.killable.t.Errorf("the password that was acknowledged is refused: %s", a.body)
	}
	p.password = next
	stranger := *p
	stranger.user = user{t: p.user.t}
	a, _ = stranger.send("POST", "/auth/login", object("email", p.email, "password", p.password), []int{http.StatusOK})
	var entered session
	if err := json.Unmarshal([]byte(a.body), &entered); err != nil {
		p.killable.t.Errorf("%s: %v", a.body, err)
	}
	stranger.send("POST", "/auth/logout", object("refresh_token", entered.RefreshToken), []int{http.StatusNoContent})
	p.send("DELETE", "/auth/sessions", "", []int{http.StatusNoContent})
	hash, err := token.HashRefresh(entered.RefreshToken)
	if err != nil {
		p.killable.t.Error(err)
	}
	p.ended = append(p.ended, hex.EncodeToString(hash))
}

// compare compares what was acknowledged with what is stored.
func (s *killable) compare(people []*person) {
	s.t.Helper()
	same := func(what string, want, got []string) {
		s.t.Helper()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			s.t.Errorf("%s: %s", what, cmp.Diff(want, got))
		}
	}
	for _, p := range people {
		var tweets, retweets, likes, users []string
		for id, text := range p.tweets {
			tweets = append(tweets, id+" "+text)
		}
		there := s.rows(`select id || ' ' || text from tweets where author_id = $1 and retweet_of is null`, p.id)
		there = slices.DeleteFunc(there, func(row string) bool { // each once, or not at all
			_, text, _ := strings.Cut(row, " ")
			maybe := p.maybe[text]
			delete(p.maybe, text)
			return maybe
		})
		same(p.name+"'s tweets", tweets, there)
		for source, id := range p.retweets {
			retweets = append(retweets, source+" "+id)
		}
		same(p.name+"'s retweets", retweets, s.rows(`select retweet_of || ' ' || id from tweets where author_id = $1 and retweet_of is not null and deleted_at is null`, p.id))
		for tweet := range p.likes {
			likes = append(likes, tweet)
		}
		same(p.name+"'s likes", likes, s.rows(`select tweet_id::text from likes where user_id = $1 and deleted_at is null`, p.id))
		same(p.name+"'s feedback", p.opinions, s.rows(`select text from feedback where user_id = $1`, p.id))
		for id, email := range p.users {
			users = append(users, id+" "+email)
		}
		p.send("POST", "/auth/login", object("email", p.email, "password", p.password), []int{http.StatusOK})
		same(p.name+"'s sessions that go on after their end", nil, s.rows(`
			select encode(r.token_hash, 'hex')
			from refresh_tokens r
			join sessions s on s.id = r.family
			where encode(r.token_hash, 'hex') = any($1) and s.revoked_at is null`, p.ended))
		same("whom "+p.name+" registered", users, s.rows(`select user_id || ' ' || email from credentials where user_id = any($1)`, slices.Collect(maps.Keys(p.users))))
	}
	same("counts that are not of what is there", nil, s.rows(`
		select c.tweet_id::text
		from tweet_counts c
		where c.retweets <> (select count(*) from tweets t where t.retweet_of = c.tweet_id and t.deleted_at is null)
			or c.likes <> (select count(*) from likes l where l.tweet_id = c.tweet_id and l.deleted_at is null)`))
}

// compareMail checks that everybody whose request was acknowledged got mail. After a kill, a mail may be sent twice.
func (s *killable) compareMail(people []*person) {
	s.t.Helper()
	unfinished := []string{"not read"}
	s.t.Cleanup(func() {
		if len(unfinished) > 0 {
			s.t.Logf("requests of mail without an end: %q", unfinished)
		}
	})
	eventually(s.t, "the end of all requests of mail", lettersLimit, func() bool {
		unfinished = s.rows(`select id || ' of ' || created_at || ', claimed until ' || coalesce(claimed_until::text, 'never') from mail_requests where finished_at is null`)
		return len(unfinished) == 0
	})
	got := make(map[string]bool)
	letters := s.office.Letters()
	for _, l := range letters {
		_, kind, _ := l.Link()
		got[kind+" "+l.To] = true
	}
	for _, p := range people {
		for _, email := range p.users {
			if !got["verify "+email] {
				s.t.Errorf("%s registered, and got no mail", email)
			}
		}
		for _, email := range p.resets {
			if !got["reset "+email] {
				s.t.Errorf("%s asked for a new password, and got no mail", email)
			}
		}
	}
	s.t.Logf("%d mails to %d", len(letters), len(got))
}

// compareEvents compares the subscriber's events with the stored rows.
func (s *killable) compareEvents() {
	s.t.Helper()
	want := s.rows(`
		select 'dev.warble.user.registered.v1 ' || id from users
		union all
		select case when retweet_of is null then 'dev.warble.tweet.posted.v1 ' else 'dev.warble.tweet.retweeted.v1 ' end || id from tweets
		union all
		select 'dev.warble.mail.requested.v1 ' || id from mail_requests
		union all
		select 'dev.warble.tweet.deleted.v1 ' || id from tweets where deleted_at is not null
		union all
		select 'dev.warble.tweet.liked.v1 ' || id from likes
		union all
		select 'dev.warble.tweet.unliked.v1 ' || id from likes where deleted_at is not null`)
	events := s.subscriber.events()
	var got []string
	seen, last := make(map[string]bool), make(map[string]int64)
	for _, e := range events {
		if seen[e.id] {
			continue // at least once
		}
		seen[e.id] = true
		got = append(got, e.kind+" "+e.subject)
		id, err := strconv.ParseInt(e.id, 10, 64)
		if err != nil || id <= last[e.user] {
			s.t.Errorf("%s of %s came after event %d: %v", e.id, e.user, last[e.user], err)
		}
		last[e.user] = id
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("events: %s", diff)
	}
	if dead := s.rows(`select id || ' ' || reason from dead_letters`); len(dead) > 0 {
		s.t.Errorf("dead letters: %v", dead)
	}
	s.t.Logf("%d events, %d of them sent again", len(got), len(events)-len(got))
}
