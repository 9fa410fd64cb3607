package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/telemetry"
)

const (
	// outcomesInterval is how often it is looked whether a window has closed, and how soon one that could not be sent is
	// sent again.
	outcomesInterval = time.Second
	// outcomesTimeout leaves whoever stores them the time to start, and to roll back what is said to fail, and turnTimeout that
	// to move every experiment.
	outcomesTimeout = 30 * time.Second
	turnTimeout     = 55 * time.Second
	// outcomesLife is how long a window is kept that cannot be sent: an arm then has 360 of them.
	outcomesLife = time.Hour
	// outcomesBatch keeps a request well below the 64 KiB that a function reads.
	outcomesBatch = 200
	// outcomesLast is how long an edge that ends tries to send the rest.
	outcomesLast = 5 * time.Second
)

// outcomes counts the answers of each arm in windows, and sends those that have closed until they are stored. Whoever
// stores them tells one that comes twice by this process's name and the window.
type outcomes struct {
	url    string // STEER_URL; where it is empty nothing is counted
	pod    string // a name of this process alone: the next one in its pod counts anew
	key    []byte // signs
	client *http.Client
	now    func() time.Time
	log    zerolog.Logger
	lost   *telemetry.Counter

	mu      sync.Mutex
	counts  map[window]*experiment.Outcomes
	tripped []experiment.Suspension // as they were last said
	closed  time.Time               // windows that begin before it have been taken: what comes late counts in a later one

	sending sync.Mutex            // guards what follows
	pending []experiment.Outcomes // in the order of their starts
	failing bool                  // which was said
	losing  bool                  // and this
}

// window is one arm's.
type window struct {
	experiment string
	arm        experiment.Arm
	start      int64 // Unix seconds
}

// steerFromEnv reads STEER_URL, the function that moves experiments; "" where none is set. HOSTNAME is the pod's name.
func steerFromEnv(e *env.Reader) (to, pod string) {
	to = e.String("STEER_URL", "")
	if u, err := url.Parse(to); to != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "") {
		e.Reject("STEER_URL", to, "a URL without a path, as http://steer.warble.svc.cluster.local, or nothing")
	}
	return to, e.String("HOSTNAME", "edge")
}

func newOutcomes(to, pod string, key []byte, t *telemetry.Telemetry) *outcomes {
	return &outcomes{
		url: to, pod: pod + "." + rand.Text()[:8], key: key, now: time.Now, log: t.Log,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lost: t.Counter("warble_experiment_outcomes_lost_total",
			"Windows of an arm's outcomes that were given up, as nobody stored them."),
		counts: make(map[window]*experiment.Outcomes),
	}
}

// count counts one answer of an arm.
func (o *outcomes) count(name string, arm experiment.Arm, failed bool) {
	if o.url == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	start := o.now().Truncate(experiment.Window)
	if start.Before(o.closed) {
		start = o.closed // the clock was set back, or this window was sent before its end
	}
	key := window{name, arm, start.Unix()}
	w := o.counts[key]
	if w == nil {
		w = &experiment.Outcomes{Experiment: name, Arm: arm, Start: start.UTC()}
		o.counts[key] = w
	}
	w.Requests++
	if failed {
		w.Errors++
	}
}

// suspend has what a tripwire sees be sent at once: whoever moves experiments rolls back a treatment that fails.
func (o *outcomes) suspend(s experiment.Suspension) {
	o.log.Warn().Str("experiment", s.Experiment).Int64("users", s.Users).Int64("answers", s.Answers).Int64("errors", s.Errors).
		Int64("untouched", s.Untouched).Int64("untouched_errors", s.UntouchedErrors).Str("verdict", string(s.Verdict)).Msg("experiment suspended here")
	if o.url == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tripped = append(slices.DeleteFunc(o.tripped, another(s)), s)
}

// another tells what was said of the same suspension at another time.
func another(s experiment.Suspension) func(experiment.Suspension) bool {
	return func(t experiment.Suspension) bool { return t.Experiment == s.Experiment && t.Start.Equal(s.Start) }
}

// takeSuspensions returns what has not been sent.
func (o *outcomes) takeSuspensions() []experiment.Suspension {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.tripped
	o.tripped = nil
	return taken
}

// putBack keeps suspensions that could not be sent, but those of which something newer is known.
func (o *outcomes) putBack(all []experiment.Suspension) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		if !slices.ContainsFunc(o.tripped, another(s)) {
			o.tripped = append(o.tripped, s)
		}
	}
}

// ask has experiments moved now: somebody wishes something else of one.
func (o *outcomes) ask(ctx context.Context) error {
	if o.url == "" {
		return nil
	}
	_, err := o.post(ctx, "/turn", turnTimeout, struct{}{})
	return err
}

// take returns the windows that begin before end, and closes them.
func (o *outcomes) take(end time.Time) (taken []experiment.Outcomes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if end.After(o.closed) {
		o.closed = end
	}
	for key, w := range o.counts {
		if w.Start.Before(end) {
			taken = append(taken, *w)
			delete(o.counts, key)
		}
	}
	return taken
}

// send sends what has closed and has not been stored. What cannot be sent is so said once, and is sent the next time.
func (o *outcomes) send(ctx context.Context) error {
	o.sending.Lock()
	defer o.sending.Unlock()
	o.sendUntil(ctx, o.now().Truncate(experiment.Window))
	return nil
}

func (o *outcomes) sendUntil(ctx context.Context, end time.Time) {
	o.pending = append(o.pending, o.take(end)...)
	slices.SortStableFunc(o.pending, func(a, b experiment.Outcomes) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Experiment, b.Experiment), cmp.Compare(a.Arm, b.Arm))
	})
	tripped := o.takeSuspensions()
	for len(o.pending) > 0 || len(tripped) > 0 {
		n := min(len(o.pending), outcomesBatch)
		refused, err := o.post(ctx, "/outcomes", outcomesTimeout, counted{o.pod, o.pending[:n], tripped})
		if err != nil && !refused {
			o.putBack(tripped)
		}
		tripped = nil
		switch {
		case refused:
			o.log.Error().Err(err).Int("windows", n).Msg("outcomes are refused: these are lost")
			o.lose(n)
		case err != nil:
			if !o.failing {
				o.log.Warn().Err(err).Int("windows", len(o.pending)).Msg("outcomes are not stored: they are kept and sent again")
			}
			o.failing = true
			o.expire()
			return
		default:
			if o.failing {
				o.log.Info().Msg("outcomes are stored again")
			}
			o.failing, o.losing = false, false
			o.pending = o.pending[n:]
		}
	}
	o.pending = nil
}

// expire gives up what is older than outcomesLife, so that what nobody stores does not fill the memory.
func (o *outcomes) expire() {
	oldest := o.now().Add(-outcomesLife)
	n := 0
	for n < len(o.pending) && o.pending[n].Start.Before(oldest) {
		n++
	}
	if n > 0 && !o.losing {
		o.log.Error().Msg("outcomes were not stored within an hour: they are lost from the oldest on, until they can be stored")
		o.losing = true
	}
	o.lose(n)
}

// lose drops the first of what is pending.
func (o *outcomes) lose(n int) {
	for range n {
		o.lost.Inc()
	}
	o.pending = slices.Clone(o.pending[n:])
}

// counted is what is sent of an edge.
type counted struct {
	Pod         string                  `json:"pod"`
	Windows     []experiment.Outcomes   `json:"windows"`
	Suspensions []experiment.Suspension `json:"suspensions"`
}

// post sends something to whoever moves experiments. What is refused would be refused again.
func (o *outcomes) post(ctx context.Context, path string, timeout time.Duration, body any) (refused bool, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+path, bytes.NewReader(text))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(function.HeaderClient, netip.IPv4Unspecified().String()) // nobody's request but the edge's own
	function.Sign(request, o.key, time.Now())
	answer, err := o.client.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	reason, _ := io.ReadAll(io.LimitReader(answer.Body, 500)) // only for the log
	switch status := answer.StatusCode; {
	case status/100 == 2:
		return false, nil
	case status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests:
		return true, fmt.Errorf("%s answered %s: %q", o.url+path, answer.Status, reason)
	default:
		return false, fmt.Errorf("%s answered %s: %q", o.url+path, answer.Status, reason)
	}
}

// Ready is of no request's concern: it returns nil.
func (o *outcomes) Ready(context.Context) error { return nil }

// Close sends all there is, the windows that are still open as well, and gives up after a while.
func (o *outcomes) Close() {
	o.sending.Lock()
	defer o.sending.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), outcomesLast)
	defer cancel()
	for end := o.now().Truncate(experiment.Window).Add(experiment.Window); ; {
		o.sendUntil(ctx, end)
		if len(o.pending) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			o.log.Error().Int("windows", len(o.pending)).Msg("outcomes were not stored before the end: these are lost")
			return
		case <-time.After(outcomesInterval / 5):
		}
	}
}
