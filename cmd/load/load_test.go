package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/clocktest"
)

// standInToken is a token with the claims {"community":"gophers"}.
const standInToken = "eyJhbGciOiJub25lIn0.eyJjb21tdW5pdHkiOiJnb3BoZXJzIn0."

// standIn starts a server that answers like a Warble that stores nothing, and returns a client of it. before gets every request
// first, and may answer it.
func standIn(t *testing.T, before func(w http.ResponseWriter, r *http.Request) (answered bool)) *client {
	t.Helper()
	mux := http.NewServeMux()
	says := func(pattern string, status int, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !before(w, r) {
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
			}
		})
	}
	const session = `{"data":{"id":"7"},"token":"` + standInToken + `","refresh_token":"next","expires_at":"2099-01-01T00:00:00Z"}`
	says("GET /2/users/{id}/timelines/reverse_chronological", 200, `{"data":[{"id":"1"},{"id":"2"}]}`)
	says("GET /2/users/{id}/tweets", 200, `{"data":[]}`)
	says("POST /2/tweets", 201, `{"data":{"id":"3"}}`)
	says("POST /2/users/{id}/likes", 200, `{"data":{"liked":true}}`)
	says("POST /2/users/{id}/retweets", 200, `{"data":{"retweeted":true,"rest_id":"5"}}`)
	says("POST /feedback", 201, `{"data":{"id":"4"}}`)
	says("GET /communities", 200, `{"data":[{"slug":"gophers"}]}`)
	says("POST /auth/register", 201, session)
	says("POST /auth/refresh", 401, `{}`)
	says("POST /auth/login", 200, session)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return newTestClient(t, server.URL)
}

// inside returns people who are signed in already. Their tokens and ids are their numbers.
func inside(m model) []*person {
	people := newPeople(m, []string{"gophers", "sres"})
	for i, p := range people {
		id := strconv.Itoa(i)
		p.account = account{ID: id, Token: id, Expires: time.Now().Add(time.Hour)}
	}
	return people
}

// used makes people use the stand-in for length, and returns the summary.
func used(t *testing.T, m model, c *client, people []*person, inFlight int, length time.Duration) summary {
	t.Helper()
	l := newLoad(newPopulation(m), c, people, "likes", inFlight)
	l.run(t.Context(), time.Now(), length)
	return l.summary(length)
}

func all(t *testing.T, s summary, a arm) actionFigure {
	t.Helper()
	for _, of := range s.Actions {
		if of.Action == "all" && of.Arm == a {
			return of
		}
	}
	t.Fatalf("nothing of %s in %+v", a, s)
	return actionFigure{}
}

// One of some hundred requests hangs for a second, and so do all requests that come meanwhile. A load that waits for answers (a
// closed loop) would send hardly any of those, and would show one slow request, in the maximum.
func TestAStallShowsInAllRequestsThatWereDueMeanwhile(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people, m.rate = 50, 200
	var (
		requests atomic.Int64
		turn     = make(chan struct{}, 1)
	)
	c := standIn(t, func(http.ResponseWriter, *http.Request) bool {
		turn <- struct{}{}
		if requests.Add(1) == 50 {
			<-time.After(time.Second)
		}
		<-turn
		return false
	})
	s := used(t, m, c, inside(m), 10_000, 3*time.Second)
	got := all(t, s, none)
	if got.P99 < 700 || got.Max < 1000 || s.Errors > 0 {
		t.Errorf("p99 %.0f, max %.0f ms, %d errors of %d requests: want the second that one of them hung in p99", got.P99, got.Max, s.Errors, s.Requests)
	}
}

// If too many requests are under way, further ones are not sent, and count as errors.
func TestDroppedRequestsAreErrors(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people, m.rate = 50, 200
	served := make(chan struct{})
	var sent atomic.Int64
	c := standIn(t, func(http.ResponseWriter, *http.Request) bool {
		sent.Add(1)
		<-served
		return false
	})
	l := newLoad(newPopulation(m), c, inside(m), "likes", 4)
	pace(t.Context(), newPlan(l.population).next, time.Now(), time.Second, func(i intent, due time.Time) { l.start(t.Context(), i, due) })
	close(served) // after all requests were due
	l.running.Wait()
	s := l.summary(time.Second)
	got := all(t, s, none)
	if sent.Load() != 4 || got.Outcomes[dropped] != got.Requests-4 || got.Requests < 100 || s.Errors != got.Outcomes[dropped] {
		t.Errorf("%d sent of %+v, want 4 and the rest dropped", sent.Load(), got)
	}
	if got.Max < 500 {
		t.Errorf("the longest of those that were sent took %.0f ms, and the server half a second at least", got.Max)
	}
}

func TestAnInterruptedLoadPrintsASummary(t *testing.T) {
	t.Parallel()
	m := ordinary
	hang := make(chan struct{})
	var sent atomic.Int64
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	c := standIn(t, func(http.ResponseWriter, *http.Request) bool {
		if sent.Add(1) == 20 {
			interrupt()
		}
		<-hang
		return false
	})
	t.Cleanup(func() { close(hang) }) // runs before the server is closed, because closing waits for its requests
	l := newLoad(newPopulation(m), c, inside(m), "likes", 10_000)
	began := time.Now()
	took := clocktest.Took(func() { l.run(ctx, began, time.Minute) })
	waited, s := time.Since(began), l.summary(time.Second)
	if waited < interruptedWait || took > interruptedWait+5*time.Second {
		t.Errorf("it took %s, of which %s are not this machine's, want %s and a little", waited, took, interruptedWait)
	}
	if got := all(t, s, none).Outcomes[cutOff]; s.Errors != 0 || got != s.Requests || got < 20 {
		t.Errorf("%+v, want all of 20 or more cut off", s)
	}
}

// The edge's answers name a person's arm. Only the treatment has the feature.
func TestTheArmDecidesWhatPeopleDo(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people, m.rate, m.effect, m.mix = 90, 300, 2, [3]float64{.5, .3, .2}
	var likes [3]atomic.Int64
	c := standIn(t, func(w http.ResponseWriter, r *http.Request) bool {
		person, err := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			t.Error(err)
		}
		if of := []string{"", "control", "treatment"}[person%3]; of != "" && r.URL.Path != "/feedback" {
			w.Header().Set("X-Experiment", "likes")
			w.Header().Set("X-Variant", of)
		}
		if !strings.HasSuffix(r.URL.Path, "/likes") {
			return false
		}
		likes[person%3].Add(1)
		if person%3 == 2 {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"type":"https://warble.dev/problems/feature-not-open"}`))
		return true
	})
	people := inside(m)
	l := newLoad(newPopulation(m), c, people, "likes", 10_000)
	for i := range people { // first, so that everybody knows their arm: on a busy machine, half of the load would be over before that
		l.start(t.Context(), intent{kind: home, person: i}, time.Now())
	}
	l.running.Wait()
	l.run(t.Context(), time.Now(), 4*time.Second)
	s := l.summary(4 * time.Second)
	if s.Errors > 0 || len(s.People) != 3 {
		t.Fatalf("%+v", s)
	}
	for i, a := range []arm{none, control, treatment} {
		if got := s.People[i]; got.Arm != a || got.People != 30 {
			t.Errorf("%+v, want 30 in %s", got, a)
		}
	}
	// People outside of the experiment try to like until an answer says that the feature is not open. People in control know this
	// before they have read anything.
	if outside, inControl, treated := likes[0].Load(), likes[1].Load(), likes[2].Load(); outside < 1 || inControl != 0 || treated < 20 {
		t.Errorf("likes tried: %d outside, %d in control, %d in treatment", outside, inControl, treated)
	}
	// The effect of 2 means three times as many posts, give or take chance.
	if lift := s.People[2].PostsPerPerson / s.People[1].PostsPerPerson; lift < 1.7 || lift > 5 {
		t.Errorf("%+v: %.2f times as many posts, want about 3", s.People, lift)
	}
}

func TestPeopleLearnFromAnswers(t *testing.T) {
	t.Parallel()
	type knows struct {
		Arm               arm
		Treated, WouldTry bool
	}
	in := func(variant string) reply { return reply{status: 200, experiment: "likes", variant: variant} }
	refusal := reply{status: 404, problem: "https://warble.dev/problems/feature-not-open"}
	type told struct {
		kind  kind
		reply reply
	}
	for name, tt := range map[string]struct {
		told []told
		want knows
	}{
		"nothing yet":                     {nil, knows{none, false, true}},
		"an arm":                          {[]told{{home, in("treatment")}}, knows{treatment, true, true}},
		"the other":                       {[]told{{home, in("control")}}, knows{control, false, false}},
		"another experiment's":            {[]told{{home, reply{status: 200, experiment: "avatars", variant: "treatment"}}}, knows{none, false, true}},
		"none by what is outside of it":   {[]told{{home, in("treatment")}, {feedback, reply{status: 201}}}, knows{treatment, true, true}},
		"none by an error":                {[]told{{home, in("treatment")}, {home, reply{status: 503}}}, knows{treatment, true, true}},
		"none any more":                   {[]told{{home, in("treatment")}, {home, reply{status: 200}}}, knows{none, false, true}},
		"liking works for everybody":      {[]told{{like, reply{status: 200}}}, knows{none, true, true}},
		"liking does not":                 {[]told{{like, refusal}}, knows{none, false, false}},
		"liking does not any more":        {[]told{{like, reply{status: 200}}, {like, refusal}}, knows{none, false, false}},
		"a failure, which tells nothing":  {[]told{{like, reply{status: 503}}}, knows{none, false, true}},
		"an arm after liking was refused": {[]told{{like, refusal}, {home, in("treatment")}}, knows{treatment, true, true}},
	} {
		p := &person{arm: none}
		for _, told := range tt.told {
			p.learn(told.kind, told.reply, "likes")
		}
		if diff := cmp.Diff(tt.want, knows{p.arm, p.treated(), p.wantsToLike()}); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSessionsAreRenewed(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people = 1
	p := inside(m)[0]
	var login, fresh atomic.Int64
	c := standIn(t, func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/auth/login":
			login.Add(1)
		case r.Header.Get("Authorization") == "Bearer "+standInToken && r.URL.Path == "/2/users/7/timelines/reverse_chronological":
			fresh.Add(1)
		}
		return false
	})
	p.account.Expires = time.Now().Add(30 * time.Second)
	l := newLoad(newPopulation(m), c, []*person{p}, "likes", 10)
	for range 2 {
		l.start(t.Context(), intent{kind: home}, time.Now())
		l.running.Wait()
	}
	if login.Load() != 1 || fresh.Load() == 0 || p.account.RefreshToken != "next" {
		t.Errorf("%d logins, %d requests with the new token, %+v", login.Load(), fresh.Load(), p.account)
	}
}

func TestSummaryForPeople(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people = 4
	people := inside(m)
	l := newLoad(newPopulation(m), &client{base: "http://127.0.0.1:8080"}, people, "likes", 1)
	for i, a := range []arm{control, control, treatment, treatment} {
		people[i].arm, people[i].posts = a, 10+i
	}
	for i := range 100 {
		l.results.record(home, control, "200", time.Duration(i+1)*time.Millisecond)
	}
	l.results.record(post, treatment, "503", 20*time.Millisecond)
	l.results.drop(post, treatment)
	l.results.record(like, none, notOpen, time.Millisecond)
	l.results.late(500 * time.Microsecond)
	var text bytes.Buffer
	if err := l.summary(50 * time.Second).text(&text); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
103 requests in 50.0 s (2.1/s), 2 errors (1.94 %); sent late by 0.5 ms (p99), 0.5 ms (max)

  action        arm  requests  errors  p50 ms  p90 ms  p99 ms  max ms
    home    control       100       0    50.0    90.0    99.0   100.0
    post  treatment         2       2    20.0    20.0    20.0    20.0
    like       none         1       0     1.0     1.0     1.0     1.0
     all       none         1       0     1.0     1.0     1.0     1.0
     all    control       100       0    50.0    90.0    99.0   100.0
     all  treatment         2       2    20.0    20.0    20.0    20.0

post, treatment: 503: 1, dropped: 1
like, none: not open: 1
2 people in control: 10.50 posts each
2 people in treatment: 12.50 posts each
treatment over control: +19.0 % posts; planted: +20.0 %
`, "\n")
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}
