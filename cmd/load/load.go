package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// arm is a person's arm, from the edge's answers.
type arm string

const (
	none      arm = "none" // no arm, or not known yet
	control   arm = "control"
	treatment arm = "treatment"
)

var arms = [...]arm{none, control, treatment}

// person is one of the people, with what the answers so far have shown.
type person struct {
	username, community string

	mu       sync.Mutex
	account  account
	arm      arm
	toldBy   kind     // the kind of request whose answer named the arm
	tried    bool     // they have tried to like something, and the answer showed whether the feature is open
	likes    bool     // the feature is open
	read     []string // ids of the tweets of the last page
	posts    int      // number of accepted posts
	renewing bool
}

// treated reports whether they have the feature: because of their arm or, outside of an experiment, because liking works.
func (p *person) treated() bool { return p.arm == treatment || p.arm == none && p.likes }

// wantsToLike reports whether a like may succeed. Outside of an experiment, the first attempt decides.
func (p *person) wantsToLike() bool {
	return p.arm == treatment || p.arm == none && (p.likes || !p.tried)
}

// learn stores what an answer shows. If it names an arm, that is the person's arm. If it names none, although the answer to the same kind of
// request named one before, the person has no arm any more. The answer to a like shows whether liking works.
func (p *person) learn(k kind, r reply, experiment string) {
	switch named := arm(r.variant); {
	case r.experiment == experiment && (named == control || named == treatment):
		p.arm, p.toldBy = named, k
	case r.ok() && p.arm != none && p.toldBy == k:
		p.arm = none
	}
	if k == like && (r.ok() || r.notOpen()) {
		p.likes = r.ok()
		p.tried = true
	}
}

// load is a running load: the people, and the results so far.
type load struct {
	*population
	*client
	experiment string
	persons    []*person
	neighbours map[string][]*person // by community
	results    *results
	inFlight   chan struct{} // has an element for each request under way; its capacity is the limit
	running    sync.WaitGroup
}

// newPeople returns the model's people, each in a community. They are the same in every run.
func newPeople(m model, communities []string) []*person {
	people := make([]*person, m.people)
	for i := range people {
		people[i] = &person{username: username(m.seed, i), community: communities[i%len(communities)], arm: none}
	}
	return people
}

func newLoad(p *population, c *client, persons []*person, experiment string, limit int) *load {
	l := &load{p, c, experiment, persons, make(map[string][]*person), newResults(), make(chan struct{}, limit), sync.WaitGroup{}}
	for _, person := range persons {
		l.neighbours[person.community] = append(l.neighbours[person.community], person)
	}
	return l
}

// interruptedWait is how long an interrupted load waits for requests under way. A load that is not interrupted waits for all of them, because
// the slowest answers matter most.
const interruptedWait = 5 * time.Second

// run returns when the length is over or ctx is done, and all answers have come.
func (l *load) run(ctx context.Context, begin time.Time, length time.Duration) {
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(interruptedWait, cut) })()
	pace(ctx, newPlan(l.population).next, begin, length, func(i intent, due time.Time) { l.start(sending, i, due) })
	l.running.Wait()
}

// start begins the actions that follow from an intent, and does not wait for their answers. If too many requests are under way, it drops and
// counts the actions.
func (l *load) start(ctx context.Context, i intent, due time.Time) {
	l.results.late(time.Since(due))
	p := l.persons[i.person]
	p.mu.Lock()
	acts := l.acts(i, p.treated())
	if i.kind == like && !p.wantsToLike() || (i.kind == like || i.kind == retweet) && len(p.read) == 0 {
		acts = nil // they cannot do it
	}
	at := p.arm
	renews := !p.renewing && time.Until(p.account.Expires) < time.Minute
	if renews {
		p.renewing = true
		acts = append([]kind{renew}, acts...)
	}
	p.mu.Unlock()
	for _, k := range acts {
		select {
		case l.inFlight <- struct{}{}:
		default:
			l.results.drop(k, at)
			if k == renew {
				p.renewed()
			}
			continue
		}
		l.running.Go(func() {
			defer func() { <-l.inFlight }()
			if k == renew {
				l.renew(ctx, p)
				return
			}
			l.send(ctx, p, k, i.which, due)
		})
	}
}

// send sends one request and records the result. The latency counts from the time when the request was due.
func (l *load) send(ctx context.Context, p *person, k kind, which float64, due time.Time) {
	p.mu.Lock()
	me, token, read, posts := p.account.ID, p.account.Token, p.read, p.posts
	if k == post {
		p.posts++
	}
	p.mu.Unlock()

	var (
		page struct{ Data []struct{ ID string } }
		r    reply
		err  error
	)
	switch k {
	case home:
		r, err = l.call(ctx, http.MethodGet, "/2/users/"+me+"/timelines/reverse_chronological", token, nil, &page)
	case timeline:
		r, err = l.call(ctx, http.MethodGet, "/2/users/"+pick(l.neighbours[p.community], which).id()+"/tweets", token, nil, &page)
	case post:
		r, err = l.call(ctx, http.MethodPost, "/2/tweets", token, map[string]string{"text": tweet(which, posts)}, nil)
	case like:
		r, err = l.call(ctx, http.MethodPost, "/2/users/"+me+"/likes", token, map[string]string{"tweet_id": pick(read, which)}, nil)
	case retweet:
		r, err = l.call(ctx, http.MethodPost, "/2/users/"+me+"/retweets", token, map[string]string{"tweet_id": pick(read, which)}, nil)
	case feedback:
		r, err = l.call(ctx, http.MethodPost, "/feedback", token, opinion(which), nil)
	}
	took := time.Since(due)

	p.mu.Lock()
	if err == nil {
		p.learn(k, r, l.experiment)
	}
	if len(page.Data) > 0 {
		p.read = nil
		for _, tweet := range page.Data {
			p.read = append(p.read, tweet.ID)
		}
	}
	if k == post && !r.ok() {
		p.posts--
	}
	if r.status == http.StatusUnauthorized && p.account.Token == token {
		p.account.Expires = time.Time{} // the token is not valid, so the next action renews it
	}
	at := p.arm
	p.mu.Unlock()

	what := outcome(r, err)
	if r.notOpen() && r.variant != string(treatment) {
		what = notOpen
	}
	l.results.record(k, at, what, took)
}

// renew gets a new session for p: with the refresh token or, if that is no longer valid, with the password.
func (l *load) renew(ctx context.Context, p *person) {
	defer p.renewed()
	began := time.Now()
	p.mu.Lock()
	token, at := p.account.RefreshToken, p.arm
	p.mu.Unlock()
	r, err := p.open(ctx, l.client, "/auth/refresh", map[string]string{"refresh_token": token})
	if r.status == http.StatusUnauthorized {
		r, err = p.open(ctx, l.client, "/auth/login", p.credentials())
	}
	l.results.record(renew, at, outcome(r, err), time.Since(began))
}

func (p *person) renewed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewing = false
}

func (p *person) id() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.account.ID
}

// pick returns an element for a uniform draw.
func pick[T any](from []T, which float64) T { return from[int(which*float64(len(from)))] }

var thoughts = []string{
	"the marsh is quiet this morning", "reading the manual, again", "tabs, and I will not discuss it", "it was the cache",
	"has anyone seen the other sock?", "deploying on a Friday, wish me luck", "the tests are green, so I am worried",
	"a warbler on the antenna", "tea first, then the pager", "who wrote this? oh", "rain, and nothing to compile",
	"it works on my cluster",
}

// tweet returns the text of somebody's nth tweet.
func tweet(which float64, n int) string { return fmt.Sprintf("%s (%d)", pick(thoughts, which), n+1) }

var opinions = [len(scores)]string{"it keeps losing me", "too slow for my taste", "it does what it says", "I come back every day", "a joy to use"}

// opinion returns a feedback: a score and, half of the time, a text that fits it.
func opinion(which float64) map[string]any {
	s := score(which)
	o := map[string]any{"score": s}
	if int(which*1000)%2 == 0 {
		o["text"] = opinions[s-1]
	}
	return o
}
