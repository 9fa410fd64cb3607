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
	// outcomesInterval is how often the edge sends closed count periods, and how soon it retries after a failure.
	outcomesInterval = time.Second
	// outcomesTimeout leaves steer time to start, and to roll back a treatment that fails. turnTimeout leaves it time to move every
	// experiment.
	outcomesTimeout = 30 * time.Second
	turnTimeout     = 55 * time.Second
	// outcomesLife is how long the edge keeps a period that it cannot send: 360 periods of a Service's arm. Steer remembers for
	// longer which periods it has stored.
	outcomesLife = time.Hour
	// outcomesBytes keeps a request well below the 64 KiB that a function reads. For example, an experiment of 20 Services that
	// changes its step within a period, with a hundred requests in each bucket, takes 40 KiB.
	outcomesBytes = 48 << 10
	// rememberedUnits is how many noted exposures are remembered. A forgotten exposure is sent again, which changes nothing.
	rememberedUnits = 1 << 16
	// maxUnsentExposures is how many exposures can wait to be stored: an hour of 18 new units a second, or a minute of a flood.
	maxUnsentExposures = 1 << 16
	// exposuresAtOnce is how many exposures are sent in one request.
	exposuresAtOnce = 100
	// closeTimeout is how long an edge that stops tries to send the rest.
	closeTimeout = 5 * time.Second
)

// outcomes counts the answers of each arm by count period, and sends closed periods until they are stored. It sends each period whole.
// So steer recognises a period that arrives twice, by this process's name, the period's start and the experiment.
type outcomes struct {
	url           string // STEER_URL; if it is empty, nothing is counted
	pod           string // a name of this process: another process in the same pod counts from zero
	key           []byte // signs requests
	client        *http.Client
	now           func() time.Time
	log           zerolog.Logger
	lostPeriods   *telemetry.Counter
	lostExposures *telemetry.Counter

	knownExposures *lru.Cache[exposureKey, struct{}] // noted already, so that each is sent once

	mu           sync.Mutex
	counts       map[periodKey]*experiment.Outcomes
	newExposures []experiment.Exposure   // to guests, since the last takeExposures
	suspensions  []experiment.Suspension // the latest of each
	closedUntil  time.Time               // periods that begin earlier have been taken: a late answer counts in a later period

	sending            sync.Mutex            // guards the fields below
	pending            []experiment.Outcomes // periods to send, in the order of their starts
	unsentExposures    []experiment.Exposure // taken, but not stored yet
	exposuresSentUntil time.Time             // the end of the period after which exposures were last sent
	failureLogged      bool                  // a failure has been logged
	lossLogged         bool                  // a loss has been logged
}

// periodKey says which answers are counted together.
type periodKey struct {
	experiment string
	step       int
	baseline   bool
	service    string
	arm        experiment.Arm
	start      int64 // Unix seconds
}

// steerFromEnv reads STEER_URL, the address of the function that moves experiments ("" if unset), and HOSTNAME, the pod's name.
func steerFromEnv(e *env.Reader) (to, pod string) {
	to = e.String("STEER_URL", "")
	if u, err := url.Parse(to); to != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "") {
		e.Reject("STEER_URL", to, "a URL without a path, such as http://steer.warble.svc.cluster.local, or nothing")
	}
	return to, e.String("HOSTNAME", "edge")
}

func newOutcomes(to, pod string, key []byte, t *telemetry.Telemetry) *outcomes {
	exposed, err := lru.New[exposureKey, struct{}](rememberedUnits)
	if err != nil {
		panic(err) // the size is not negative
	}
	return &outcomes{
		knownExposures: exposed,
		url:            to, pod: pod + "." + rand.Text()[:8], key: key, now: time.Now, log: t.Log,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lostPeriods: t.Counter("warble_experiment_outcomes_lost_total",
			"Count periods of a Service's arm that were lost because they could not be stored."),
		lostExposures: t.Counter("warble_experiment_exposures_lost_total",
			"Exposures to guests that were lost because they could not be stored."),
		counts: make(map[periodKey]*experiment.Outcomes),
	}
}

// outcome is one answer of an arm, as it is counted.
type outcome struct {
	arm    experiment.Arm
	unit   string // or the request's id, if the unit is a request
	failed bool
	waited time.Duration // from sending the request to the headers of the answer
	guest  bool          // whether a guest answered, whose latency only the edge counts
}

// count counts one answer. It allocates only for the first answer of a period.
func (o *outcomes) count(exp *routedExperiment, answer outcome) { o.add(exp, exp.Step, false, answer) }

// countBaseline counts one answer for the baseline. step is the step that will open the unit's slot.
func (o *outcomes) countBaseline(exp *routedExperiment, step int, answer outcome) {
	o.add(exp, step, true, answer)
}

func (o *outcomes) add(exp *routedExperiment, step int, baseline bool, answer outcome) {
	if o.url == "" {
		return
	}
	bucket := exp.Bucket(answer.unit)
	o.mu.Lock()
	defer o.mu.Unlock()
	start := o.now().Truncate(experiment.CountPeriod)
	if start.Before(o.closedUntil) {
		start = o.closedUntil // the clock was set back, or Close sent this period before its end
	}
	counts := o.countsOf(exp, periodKey{exp.Name, step, baseline, exp.service, answer.arm, start.Unix()})
	counts.Requests[bucket]++
	if answer.failed {
		counts.Errors[bucket]++
	}
	if answer.guest {
		if counts.Latency == nil {
			counts.Latency = make([]int64, len(experiment.LatencyBounds)+1)
		}
		at, _ := slices.BinarySearch(experiment.LatencyBounds, float64(answer.waited)/float64(time.Millisecond))
		counts.Latency[at]++
	}
	for i, bound := range exp.Bounds {
		if answer.waited > time.Duration(bound) {
			counts.Slow[i][bucket]++
		}
	}
}

// countsOf returns the counts of a period. If there are none, it begins with zeros. o.mu must be held.
func (o *outcomes) countsOf(exp *routedExperiment, key periodKey) *experiment.Outcomes {
	counts := o.counts[key]
	if counts == nil {
		const n = experiment.Buckets
		counts = &experiment.Outcomes{
			Experiment: exp.Name, Step: key.step, Before: key.baseline, Service: exp.service, Arm: key.arm, Start: time.Unix(key.start, 0).UTC(),
			Requests: make([]int64, n), Errors: make([]int64, n), Slow: make([][]int64, len(exp.Bounds)),
		}
		for i := range counts.Slow {
			counts.Slow[i] = make([]int64, n)
		}
		o.counts[key] = counts
	}
	return counts
}

// exposureKey says which exposures are the same. Users of one community have the same unit, but each of them is exposed.
type exposureKey struct {
	experiment, salt, unit string
	userID                 int64
	assigned, served       string
}

// expose notes an exposure to a guest, once. The exposure is sent with the periods.
func (o *outcomes) expose(salt string, e experiment.Exposure) {
	if o.url == "" {
		return
	}
	key := exposureKey{e.Experiment, salt, e.Unit, e.UserID, e.Assigned, e.Served}
	if known, _ := o.knownExposures.ContainsOrAdd(key, struct{}{}); known {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.newExposures) >= maxUnsentExposures {
		o.lostExposures.Inc()
		return
	}
	o.newExposures = append(o.newExposures, e)
}

// takeExposures returns the exposures that were noted since its last call.
func (o *outcomes) takeExposures() []experiment.Exposure {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.newExposures
	o.newExposures = nil
	return taken
}

// sendExposures sends the unsent exposures, until all are stored or a request fails.
func (o *outcomes) sendExposures(ctx context.Context) {
	o.unsentExposures = append(o.unsentExposures, o.takeExposures()...)
	if over := len(o.unsentExposures) - maxUnsentExposures; over > 0 {
		o.log.Error().Int("exposures", over).Msg("too many exposures could not be stored: the oldest are lost")
		o.dropExposures(over)
	}
	for len(o.unsentExposures) > 0 {
		n := min(len(o.unsentExposures), exposuresAtOnce)
		refused, err := o.post(ctx, "/outcomes", outcomesTimeout, outcomesReport{Pod: o.pod, Periods: []json.RawMessage{}, Suspensions: []experiment.Suspension{}, Exposures: o.unsentExposures[:n]})
		switch {
		case refused:
			o.log.Error().Err(err).Int("exposures", n).Msg("steer refused exposures: they are lost")
			o.dropExposures(n)
		case err != nil:
			return // sendUntil logs this failure for the periods
		default:
			o.unsentExposures = o.unsentExposures[n:]
		}
	}
	o.unsentExposures = nil
}

// dropExposures drops the first n unsent exposures, and counts them as lost.
func (o *outcomes) dropExposures(n int) {
	for range n {
		o.lostExposures.Inc()
	}
	o.unsentExposures = slices.Clone(o.unsentExposures[n:])
}

// suspend logs a suspension and queues it for the next send. That send does not wait for a period to close, so that steer soon
// rolls back a treatment that fails.
func (o *outcomes) suspend(s experiment.Suspension) {
	o.log.Warn().Str("experiment", s.Experiment).Int64("users", s.Users).Int64("answers", s.Answers).Int64("errors", s.Errors).
		Int64("untouched", s.Untouched).Int64("untouched_errors", s.UntouchedErrors).Str("verdict", string(s.Fault)).Msg("this edge has suspended the experiment")
	if o.url == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.suspensions = append(slices.DeleteFunc(o.suspensions, sameSuspension(s)), s)
}

// sameSuspension returns a function that finds other reports of the same suspension.
func sameSuspension(s experiment.Suspension) func(experiment.Suspension) bool {
	return func(t experiment.Suspension) bool { return t.Experiment == s.Experiment && t.Start.Equal(s.Start) }
}

// takeSuspensions returns the suspensions that have not been sent.
func (o *outcomes) takeSuspensions() []experiment.Suspension {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.suspensions
	o.suspensions = nil
	return taken
}

// putBack keeps suspensions that could not be sent, except those with a newer report.
func (o *outcomes) putBack(all []experiment.Suspension) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range all {
		if !slices.ContainsFunc(o.suspensions, sameSuspension(s)) {
			o.suspensions = append(o.suspensions, s)
		}
	}
}

// requestTurn asks steer to move experiments now, because somebody changed a wish.
func (o *outcomes) requestTurn(ctx context.Context) error {
	if o.url == "" {
		return nil
	}
	_, err := o.post(ctx, "/turn", turnTimeout, struct{}{})
	return err
}

// takeClosed returns the periods that begin before end, and closes them.
func (o *outcomes) takeClosed(end time.Time) (taken []experiment.Outcomes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if end.After(o.closedUntil) {
		o.closedUntil = end
	}
	for key, w := range o.counts {
		if w.Start.Before(end) {
			taken = append(taken, *w)
			delete(o.counts, key)
		}
	}
	return taken
}

// send sends all closed periods that have not been stored. It logs the first failure, and the next call tries again.
func (o *outcomes) send(ctx context.Context) error {
	o.sending.Lock()
	defer o.sending.Unlock()
	o.sendUntil(ctx, o.now().Truncate(experiment.CountPeriod))
	return nil
}

// sendUntil sends the periods that begin before end, and all suspensions. It sends exposures once for each end, and again if some
// are left over. o.sending must be held.
func (o *outcomes) sendUntil(ctx context.Context, end time.Time) {
	o.pending = append(o.pending, o.takeClosed(end)...)
	if end.After(o.exposuresSentUntil) || len(o.unsentExposures) > 0 {
		o.exposuresSentUntil = end
		o.sendExposures(ctx)
	}
	slices.SortStableFunc(o.pending, func(a, b experiment.Outcomes) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Experiment, b.Experiment))
	})
	suspensions := o.takeSuspensions()
	for len(o.pending) > 0 || len(suspensions) > 0 {
		periods := batch(o.pending)
		n := len(periods)
		refused, err := o.post(ctx, "/outcomes", outcomesTimeout, outcomesReport{Pod: o.pod, Periods: periods, Suspensions: suspensions})
		switch {
		case refused:
			o.log.Error().Err(err).Int("periods", n).Msg("steer refused outcomes: they are lost")
			o.dropPeriods(n)
		case err != nil:
			o.putBack(suspensions)
			o.noteFailure(err)
			o.dropExpired()
			return
		default:
			o.noteSuccess()
			o.pending = o.pending[n:]
		}
		suspensions = nil // the first request carries all of them
	}
	o.pending = nil
}

// noteFailure logs that sending failed, unless the last try failed too.
func (o *outcomes) noteFailure(err error) {
	if !o.failureLogged {
		o.log.Warn().Err(err).Int("periods", len(o.pending)).Msg("outcomes could not be stored: they are kept and sent again")
	}
	o.failureLogged = true
}

// noteSuccess logs that sending works again, if the last try failed.
func (o *outcomes) noteSuccess() {
	if o.failureLogged {
		o.log.Info().Msg("outcomes are stored again")
	}
	o.failureLogged, o.lossLogged = false, false
}

// batch encodes the counts of the first pending periods for one request. pending must be sorted by start and experiment. The request has all
// periods with the earliest start, or as many whole experiments of that start as fit. An experiment's periods of one start are
// never split between requests, because steer would take the second request for a repetition of the first.
func batch(pending []experiment.Outcomes) (periods []json.RawMessage) {
	size := 0     // bytes of periods
	complete := 0 // how many of periods belong to experiments that are complete
	for i, o := range pending {
		if !o.Start.Equal(pending[0].Start) {
			break
		}
		if i > 0 && o.Experiment != pending[i-1].Experiment {
			complete = i
		}
		text, _ := json.Marshal(o) // cannot fail: numbers, names and a time of this millennium
		if size += len(text) + 1; size > outcomesBytes && complete > 0 {
			return periods[:complete]
		}
		periods = append(periods, text)
	}
	return periods
}

// dropExpired drops periods that are older than outcomesLife, so that they do not fill the memory.
func (o *outcomes) dropExpired() {
	oldest := o.now().Add(-outcomesLife)
	n := 0
	for n < len(o.pending) && o.pending[n].Start.Before(oldest) {
		n++
	}
	if n > 0 && !o.lossLogged {
		o.log.Error().Msg("outcomes could not be stored for an hour: the oldest are lost, until storing works again")
		o.lossLogged = true
	}
	o.dropPeriods(n)
}

// dropPeriods drops the first n pending periods, and counts them as lost.
func (o *outcomes) dropPeriods(n int) {
	for range n {
		o.lostPeriods.Inc()
	}
	o.pending = slices.Clone(o.pending[n:])
}

// outcomesReport is the body of a request to steer.
type outcomesReport struct {
	Pod         string                  `json:"pod"`
	Periods     []json.RawMessage       `json:"windows"` // each an experiment.Outcomes
	Suspensions []experiment.Suspension `json:"suspensions"`
	Exposures   []experiment.Exposure   `json:"exposures,omitempty"`
}

// post sends a request to steer. refused means that steer would refuse the same request again.
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
	request.Header.Set(function.HeaderClient, netip.IPv4Unspecified().String()) // because no client caused this request
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

// Ready returns nil, because no request depends on outcomes.
func (o *outcomes) Ready(context.Context) error { return nil }

// Close sends everything, including periods that are still open. It gives up after closeTimeout.
func (o *outcomes) Close() {
	o.sending.Lock()
	defer o.sending.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for end := o.now().Truncate(experiment.CountPeriod).Add(experiment.CountPeriod); ; {
		o.sendUntil(ctx, end)
		if len(o.pending) == 0 && len(o.unsentExposures) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			o.log.Error().Int("periods", len(o.pending)).Int("exposures", len(o.unsentExposures)).Msg("outcomes could not be stored before the edge stopped: they are lost")
			return
		case <-time.After(outcomesInterval / 5):
		}
	}
}
