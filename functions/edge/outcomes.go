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

	lru "github.com/hashicorp/golang-lru/v2"
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
	// outcomesLife is how long a window is kept that cannot be sent: an arm of a Service then has 360 of them. Steer remembers for
	// longer which windows it has.
	outcomesLife = time.Hour
	// outcomesBytes keeps a request well below the 64 KiB that a function reads. An experiment of 20 Services that changes its
	// step within a window, with a hundred requests in each bucket, has 40 KiB.
	outcomesBytes = 48 << 10
	// rememberedUnits is how many exposures are remembered as noted; one that is forgotten is sent again, and changes nothing.
	rememberedUnits = 1 << 16
	// mostOwed bounds the exposures that wait to be stored: an hour's of 18 new units a second, or a minute's of a flood of them.
	mostOwed = 1 << 16
	// exposuresAtOnce is how many exposures are in one request.
	exposuresAtOnce = 100
	// outcomesLast is how long an edge that ends tries to send the rest.
	outcomesLast = 5 * time.Second
)

// outcomes counts the answers of each arm in windows, and sends those that have closed until they are stored. A window is sent
// whole, so that whoever stores it can tell one that comes twice by this process's name, the window and the experiment.
type outcomes struct {
	url    string // STEER_URL; where it is empty nothing is counted
	pod    string // a name of this process alone: the next one in its pod counts anew
	key    []byte // signs
	client *http.Client
	now    func() time.Time
	log    zerolog.Logger
	lost   *telemetry.Counter
	unmet  *telemetry.Counter

	exposed *lru.Cache[exposedKey, struct{}] // of units that were noted, so that each is once

	mu      sync.Mutex
	counts  map[window]*experiment.Outcomes
	met     []experiment.Exposure   // by guests, since they were last taken
	tripped []experiment.Suspension // as they were last said
	closed  time.Time               // windows that begin before it have been taken: what comes late counts in a later one

	sending sync.Mutex            // guards what follows
	pending []experiment.Outcomes // in the order of their starts
	owed    []experiment.Exposure // that have been taken and not been stored
	paid    time.Time             // the end of the window after which exposures were last sent
	failing bool                  // which was said
	losing  bool                  // and this
}

// window is what is counted together.
type window struct {
	experiment string
	step       int
	before     bool
	service    string
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
	exposed, err := lru.New[exposedKey, struct{}](rememberedUnits)
	if err != nil {
		panic(err) // the size is not negative
	}
	return &outcomes{
		exposed: exposed,
		url:     to, pod: pod + "." + rand.Text()[:8], key: key, now: time.Now, log: t.Log,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lost: t.Counter("warble_experiment_outcomes_lost_total",
			"Windows of a Service's arm that were given up, as nobody stored them."),
		unmet: t.Counter("warble_experiment_exposures_lost_total",
			"Exposures to guests that were given up, as nobody stored them."),
		counts: make(map[window]*experiment.Outcomes),
	}
}

// outcome is what one answer of an arm counts as.
type outcome struct {
	arm    experiment.Arm
	unit   string // or the request's id, where requests are the unit
	failed bool
	waited time.Duration // until its headers came, from when the request was sent on
	guest  bool          // its latency is counted here, because the guest does not
}

// count counts one answer. It allocates only for the first one of a window.
func (o *outcomes) count(t *trial, a outcome) { o.add(t, t.Step, false, a) }

// foresee counts one answer for the baseline; step will open the unit's slot.
func (o *outcomes) foresee(t *trial, step int, a outcome) { o.add(t, step, true, a) }

func (o *outcomes) add(t *trial, step int, before bool, a outcome) {
	if o.url == "" {
		return
	}
	bucket := t.Bucket(a.unit)
	o.mu.Lock()
	defer o.mu.Unlock()
	start := o.now().Truncate(experiment.Window)
	if start.Before(o.closed) {
		start = o.closed // the clock was set back, or this window was sent before its end
	}
	w := o.window(t, window{t.Name, step, before, t.service, a.arm, start.Unix()})
	w.Requests[bucket]++
	if a.failed {
		w.Errors[bucket]++
	}
	if a.guest {
		if w.Latency == nil {
			w.Latency = make([]int64, len(experiment.LatencyBounds)+1)
		}
		at, _ := slices.BinarySearch(experiment.LatencyBounds, float64(a.waited)/float64(time.Millisecond))
		w.Latency[at]++
	}
	for i, bound := range t.Bounds {
		if a.waited > time.Duration(bound) {
			w.Slow[i][bucket]++
		}
	}
}

// window returns the counts of a window, all zero where it is new. o.mu is held.
func (o *outcomes) window(t *trial, key window) *experiment.Outcomes {
	w := o.counts[key]
	if w == nil {
		const n = experiment.Buckets
		w = &experiment.Outcomes{
			Experiment: t.Name, Step: key.step, Before: key.before, Service: t.service, Arm: key.arm, Start: time.Unix(key.start, 0).UTC(),
			Requests: make([]int64, n), Errors: make([]int64, n), Slow: make([][]int64, len(t.Bounds)),
		}
		for i := range w.Slow {
			w.Slow[i] = make([]int64, n)
		}
		o.counts[key] = w
	}
	return w
}

// exposedKey is what makes an exposure another one.
type exposedKey struct{ experiment, salt, unit, assigned, served string }

// expose notes an exposure to a guest, once: it leaves with the windows.
func (o *outcomes) expose(salt string, e experiment.Exposure) {
	if o.url == "" {
		return
	}
	key := exposedKey{e.Experiment, salt, e.Unit, e.Assigned, e.Served}
	if known, _ := o.exposed.ContainsOrAdd(key, struct{}{}); known {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.met) >= mostOwed {
		o.unmet.Inc()
		return
	}
	o.met = append(o.met, e)
}

// takeExposures returns what was noted since it was last called.
func (o *outcomes) takeExposures() []experiment.Exposure {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.met
	o.met = nil
	return taken
}

// sendExposures sends what is owed, until all is stored or something cannot be sent.
func (o *outcomes) sendExposures(ctx context.Context) {
	o.owed = append(o.owed, o.takeExposures()...)
	if over := len(o.owed) - mostOwed; over > 0 {
		o.log.Error().Int("exposures", over).Msg("exposures were not stored and are too many: the oldest are lost")
		o.forget(over)
	}
	for len(o.owed) > 0 {
		n := min(len(o.owed), exposuresAtOnce)
		refused, err := o.post(ctx, "/outcomes", outcomesTimeout, counted{Pod: o.pod, Windows: []json.RawMessage{}, Suspensions: []experiment.Suspension{}, Exposures: o.owed[:n]})
		switch {
		case refused:
			o.log.Error().Err(err).Int("exposures", n).Msg("exposures are refused: these are lost")
			o.forget(n)
		case err != nil:
			return // send says so, of the windows of the same moment
		default:
			o.owed = o.owed[n:]
		}
	}
	o.owed = nil
}

// forget drops the first of what is owed.
func (o *outcomes) forget(n int) {
	for range n {
		o.unmet.Inc()
	}
	o.owed = slices.Clone(o.owed[n:])
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
	if end.After(o.paid) || len(o.owed) > 0 {
		o.paid = end
		o.sendExposures(ctx)
	}
	slices.SortStableFunc(o.pending, func(a, b experiment.Outcomes) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Experiment, b.Experiment))
	})
	tripped := o.takeSuspensions()
	for len(o.pending) > 0 || len(tripped) > 0 {
		windows := batch(o.pending)
		n := len(windows)
		refused, err := o.post(ctx, "/outcomes", outcomesTimeout, counted{Pod: o.pod, Windows: windows, Suspensions: tripped})
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

// batch encodes the first of what is pending, which is in the order of windows and experiments, for one request: all of one
// window, or as many experiments of it as fit. An experiment's counts of a window are never in two requests, because the
// second one would be taken for the first sent again.
func batch(pending []experiment.Outcomes) (windows []json.RawMessage) {
	size, whole := 0, 0 // of windows: bytes, and how many belong to experiments that are in it with all they have
	for i, o := range pending {
		if i > 0 && (o.Experiment != pending[i-1].Experiment || !o.Start.Equal(pending[0].Start)) {
			whole = i
		}
		if !o.Start.Equal(pending[0].Start) {
			break
		}
		text, _ := json.Marshal(o) // numbers, names and a time of this millennium
		if size += len(text) + 1; size > outcomesBytes && whole > 0 {
			return windows[:whole]
		}
		windows = append(windows, text)
	}
	return windows
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
	Windows     []json.RawMessage       `json:"windows"` // each an experiment.Outcomes
	Suspensions []experiment.Suspension `json:"suspensions"`
	Exposures   []experiment.Exposure   `json:"exposures,omitempty"`
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
		if len(o.pending) == 0 && len(o.owed) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			o.log.Error().Int("windows", len(o.pending)).Int("exposures", len(o.owed)).Msg("outcomes were not stored before the end: these are lost")
			return
		case <-time.After(outcomesInterval / 5):
		}
	}
}
