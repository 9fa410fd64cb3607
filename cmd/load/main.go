// Command load simulates people who use a Warble on this machine over HTTP: a local run, or the ingress of the cluster that make cluster starts.
// They show what an experiment finds, and what a load costs.
//
//	load [-url http://127.0.0.1:8080] [-host HEADER] [-users 200] [-rate 50] [-for 1m] [-effect +0.20] ...
//
// They read their home timeline and others' tweets, and post. They like what they read if the feature is open to them, retweet some of it, and
// sometimes give feedback. People in the treatment of -experiment post 1 + effect times as much: this is the planted effect, which a readout
// should find. The edge's X-Experiment and X-Variant name the arm. Outside of an experiment, people for whom liking works do the same. A slow
// treatment cannot be planted here, because no request of a client can make a server slow. Use FAULTS in the treatment instead.
//
// People arrive on a schedule and do not wait for earlier answers (an open loop). A latency counts from the time when the request was due, so
// that a stall of the server shows in every request that was due meanwhile. If more than -in-flight requests are under way, further ones are
// dropped, and count as errors. The same -seed gives the same people, with the same intents in the same order.
//
// The summary goes to stdout, progress to stderr. Ctrl-C ends the load early, with a summary so far. The exit status is 1 if the share of errors
// is above -max-errors or the load could not run, and 2 for a wrong command line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends it immediately
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	allWell = iota
	failed
	misused
)

// command runs one command line. args do not have the program's name.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) (status int) {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return allWell
	}
	var s summary
	if err == nil {
		s, err = run(ctx, o, newConsole(stderr))
	}
	if err == nil {
		err = s.print(stdout, o.output)
	}
	if err == nil && s.ErrorShare > o.maxErrors {
		err = fmt.Errorf("%.2f %% of the requests failed: expected at most %.2f %%, as -max-errors says", 100*s.ErrorShare, 100*o.maxErrors)
	}
	if err == nil {
		return allWell
	}
	fmt.Fprintln(stderr, "load:", err)
	if errors.As(err, new(usageError)) {
		return misused
	}
	return failed
}

// run signs everybody in, makes them use Warble for o.length, and returns the summary.
func run(ctx context.Context, o options, console *console) (summary, error) {
	c, err := newClient(ctx, o.url, o.host, o.timeout, o.inFlight)
	if err != nil {
		return summary{}, err
	}
	saved, err := readState(o.state)
	if err != nil {
		return summary{}, err
	}
	communities, err := c.communities(ctx, o.communities)
	if err != nil {
		return summary{}, err
	}
	people := newPeople(o.model, communities)
	accounts := saved.accounts(c)
	e := &entrance{client: c, until: time.Now().Add(o.length + 2*time.Minute)}
	stop := console.follow(func(time.Duration) string {
		return fmt.Sprintf("%d of %d people are signed in", e.entered.Load(), len(people))
	})
	err = e.all(ctx, people, accounts)
	stop()
	if err = errors.Join(err, saved.write(o.state)); err != nil {
		return summary{}, err
	}

	l := newLoad(newPopulation(o.model), c, people, o.experiment, o.inFlight)
	begin := time.Now()
	stop = console.follow(func(since time.Duration) string { return l.progress(time.Since(begin), o.length, since) })
	l.run(ctx, begin, o.length)
	stop()
	for _, p := range people {
		accounts[p.username] = p.account // some were renewed
	}
	s := l.summary(min(time.Since(begin), o.length))
	s.Interrupted = ctx.Err() != nil
	if s.Requests == 0 {
		err = fmt.Errorf("nobody sent a request within %s: choose a longer -for or a higher -rate", time.Duration(s.Seconds*float64(time.Second)))
	}
	return s, errors.Join(err, saved.write(o.state))
}

func (s summary) print(out io.Writer, form string) error {
	if form == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	return s.text(out)
}

// usageError is a wrong command line: wrong by itself, or for this Warble.
type usageError string

func (e usageError) Error() string { return string(e) }

func usage(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

type options struct {
	model
	url, host   string
	communities int
	experiment  string
	length      time.Duration
	timeout     time.Duration
	inFlight    int
	state       string
	output      string
	maxErrors   float64
}

const (
	maxLength = time.Hour
	maxRate   = 5000
	maxPeople = 100_000
	maxSeed   = 999_999 // a username has 15 characters
)

// parse reads the command line. Its error names the first mistake, and what was expected.
func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error names the flag; a page with all flags would hide it
	f.StringVar(&o.url, "url", "http://127.0.0.1:8080", "the edge, on this machine only")
	f.StringVar(&o.host, "host", "", "Host header, if an ingress needs it (edge.warble.kn.localhost)")
	f.Uint64Var(&o.seed, "seed", 1, "the same seed gives the same people, who do the same")
	f.IntVar(&o.people, "users", 200, "number of people")
	f.IntVar(&o.communities, "communities", 0, "number of Warble's communities that they join (0: all)")
	f.Float64Var(&o.rate, "rate", 50, "requests a second, of all people together; likes, retweets and the effect come on top")
	f.DurationVar(&o.length, "for", time.Minute, "how long the load runs, at most 1h")
	f.Float64Var(&o.cv, "cv", .5, "how much people differ in how often they use Warble: the coefficient of variation")
	f.Float64Var(&o.actions, "actions", 4, "mean number of actions in a session")
	f.DurationVar(&o.think, "think", 2*time.Second, "mean pause between two actions")
	mix := f.String("mix", "60:30:10", "weights of three actions: read home, read someone's tweets, and post")
	f.Float64Var(&o.like, "like", .2, "probability of a like after reading, if the feature is open")
	f.Float64Var(&o.retweet, "retweet", .03, "probability of a retweet after reading")
	f.Float64Var(&o.feedback, "feedback", .02, "probability that a session ends with feedback")
	f.Float64Var(&o.effect, "effect", 0, "planted effect: +0.20 makes people in the treatment post 1.2 times as much")
	f.StringVar(&o.experiment, "experiment", "likes", "the experiment whose treatment has the planted effect")
	f.IntVar(&o.inFlight, "in-flight", 512, "how many requests may be under way; further ones are dropped")
	f.DurationVar(&o.timeout, "timeout", 20*time.Second, "how long an answer may take")
	f.StringVar(&o.state, "state", filepath.Join(".warble", "load.json"), "file that keeps the people's tokens for the next run")
	f.StringVar(&o.output, "o", "text", "summary: text or json")
	f.Float64Var(&o.maxErrors, "max-errors", .01, "if the share of errors is greater, the exit status is 1")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stderr)
		f.PrintDefaults()
		return o, err
	} else if err != nil {
		return o, usage("%s; load -h lists the flags", err)
	}
	if f.NArg() > 0 {
		return o, usage("%q: expected flags only", f.Args())
	}
	var home, timeline, post float64
	if n, err := fmt.Sscanf(*mix+"\n", "%g:%g:%g\n", &home, &timeline, &post); n != 3 || err != nil || min(home, timeline, post) < 0 || !(home+timeline+post > 0) {
		return o, usage("-mix %s: expected three weights, such as 60:30:10", *mix)
	}
	sum := home + timeline + post
	o.mix = [3]float64{home / sum, timeline / sum, post / sum}
	return o, o.check()
}

// check returns an error for the first flag that is out of its bounds.
func (o options) check() error {
	for _, flag := range []struct {
		name     string
		value    any
		expected string
		ok       bool
	}{
		{"seed", o.seed, "0 to 999999", o.seed <= maxSeed},
		{"users", o.people, "1 to 100000", o.people >= 1 && o.people <= maxPeople},
		{"communities", o.communities, "0 for all, or a number of them", o.communities >= 0},
		{"rate", o.rate, "more than 0, at most 5000", o.rate > 0 && o.rate <= maxRate},
		{"for", o.length, "1s to 1h", o.length >= time.Second && o.length <= maxLength},
		{"cv", o.cv, "0 to 10", o.cv >= 0 && o.cv <= 10},
		{"actions", o.actions, "1 to 100", o.actions >= 1 && o.actions <= 100},
		{"think", o.think, "0s to 1m", o.think >= 0 && o.think <= time.Minute},
		{"like", o.like, "0 to 1", o.like >= 0 && o.like <= 1},
		{"retweet", o.retweet, "0 to 1", o.retweet >= 0 && o.retweet <= 1},
		{"feedback", o.feedback, "0 to 1", o.feedback >= 0 && o.feedback <= 1},
		{"effect", o.effect, fmt.Sprintf("-1 to +%g, because posts are %g of all actions", 1/o.mix[post], o.mix[post]), o.effect >= -1 && o.effect*o.mix[post] <= 1},
		{"in-flight", o.inFlight, "1 to 10000", o.inFlight >= 1 && o.inFlight <= 10_000},
		{"timeout", o.timeout, "1s to 1m", o.timeout >= time.Second && o.timeout <= time.Minute},
		{"o", o.output, "text or json", o.output == "text" || o.output == "json"},
		{"max-errors", o.maxErrors, "0 to 1", o.maxErrors >= 0 && o.maxErrors <= 1},
	} {
		if !flag.ok {
			return usage("-%s %v: expected %s", flag.name, flag.value, flag.expected)
		}
	}
	return nil
}
