package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// load describes the requests that a load generator sends.
type load struct {
	Address     string
	Connections int
	Rate        float64       // requests a second in all; 0 for as many as are answered
	Warmup      time.Duration // the time before requests are counted
	Time        time.Duration // the time in which requests are counted
	Requests    int           // the number of requests to send; if set, Time is ignored
	Kinds       []request     // sent in turn
	Tokens      string        // file of access tokens, one a line; each request has the next one
	Distinct    int           // how many of the tokens are used, again and again
	Skip        int           // how many tokens are skipped at the start
}

type request struct{ Method, Path, Body, Cookie string }

// outcome is the result of a load. Durations are in seconds.
type outcome struct {
	Sent          int // warm-up included
	Counted       int // requests answered while requests were counted
	P50, P99, Max float64
	Failures      int    // answers other than 2xx, and broken connections
	Failure       string // the last one
}

// generateVerb, as the first argument, makes this program the load generator.
const generateVerb = "generate"

// run runs the load in a separate process. It returns an error if a request failed, because failures are cheaper to answer than successes.
func (l load) run(ctx context.Context) (outcome, error) {
	self, err := os.Executable()
	if err != nil {
		return outcome{}, err
	}
	spec, err := json.Marshal(l)
	if err != nil {
		return outcome{}, err
	}
	cmd := exec.CommandContext(ctx, self, generateVerb)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(spec), os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return outcome{}, fmt.Errorf("load generator: %w", err)
	}
	var o outcome
	if err := json.Unmarshal(text, &o); err != nil {
		return outcome{}, fmt.Errorf("load generator: %w", err)
	}
	if o.Failures > 0 {
		return outcome{}, fmt.Errorf("%d of %d requests failed, the last with %s", o.Failures, o.Sent, o.Failure)
	}
	if o.Counted == 0 {
		return outcome{}, fmt.Errorf("none of %d requests was answered in time", o.Sent)
	}
	return o, nil
}

// throughput returns the load's answers a second.
func (l load) throughput(ctx context.Context) (float64, error) {
	o, err := l.run(ctx)
	return float64(o.Counted) / l.Time.Seconds(), err
}

// median returns the load's median latency in ms.
func (l load) median(ctx context.Context) (float64, error) {
	o, err := l.run(ctx)
	return o.P50 * 1000, err
}
