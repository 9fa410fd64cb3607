package main

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"warble/shared/experiment"
)

// The tripwire is a CUSUM of log-likelihood ratios over the treatment's answers: an error rate of 50 percent against 10 percent. It
// detects a treatment that fails 30 percent of requests or more. Guardrails detect the rest.
var (
	errorWeight   = math.Log(.5 / .1)
	successWeight = math.Log(.5 / .9)
	tripThreshold = math.Log(1e5) // of 100 000 sequences without harm, one trips
)

const (
	// countedErrorsPerUser is how many errors of one user count, so that errors of at least minFailingUsers users are needed. A
	// single user for whom everything fails, for example because of a broken account, does not prove that the treatment fails.
	countedErrorsPerUser = 2
	minFailingUsers      = 4

	// The untouched Service is judged after minUntouchedAnswers answers to the experiment's users, and at least minUntouchedTime.
	// With few requests, it is judged after maxUntouchedTime.
	minUntouchedAnswers = 8
	minUntouchedTime    = 5 * time.Second
	maxUntouchedTime    = time.Minute
	// Errors of the untouched Service are rare if their share is below rareErrorShare, or below twice the share of the hour before.
	// Otherwise everything fails, not the treatment alone. Errors of maxRareErrorShare or more are never rare, because the hour
	// before may have ended in the same outage.
	rareErrorShare    = .1
	maxRareErrorShare = .5
	// The edge ends a suspension without a rollback if the share of errors in this many answers in a row is below rareErrorShare.
	recoveredAnswers = 20
)

// recipient is the client that an answer was for.
type recipient struct {
	user    int64 // 0 if unknown
	address netip.Addr
	unit    string // of a guest's experiment, for a client who is not a user of Warble
}

// tripwire watches one experiment. If its treatment fails, the tripwire suspends both arms: the untouched Services answer their
// users. The answers of the untouched Services then show whether the treatment was the cause.
type tripwire struct {
	experiment string
	onChange   func(experiment.Suspension) // receives each suspension, again when it is known what was at fault

	mu            sync.Mutex
	sum           float64
	errors        map[recipient]int // errors by recipient, while sum is above 0
	seen          experiment.Suspension
	otherAnswers  tally    // of the control and the untouched, while sum is above 0
	untouchedHour lastHour // the answers of the untouched

	suspended bool
	recent    []bool // whether each of the untouched's last answers was an error
}

// addArmAnswer counts an answer of an arm, and suspends the experiment if the treatment fails.
func (w *tripwire) addArmAnswer(arm experiment.Arm, to recipient, failed bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspended { // the request began before the suspension
		return
	}
	if arm != experiment.Treatment {
		if w.sum > 0 {
			w.otherAnswers.add(failed)
		}
		return
	}
	w.weigh(to, failed)
	suspicious := w.sum >= tripThreshold && len(w.errors) >= minFailingUsers
	switch {
	case w.sum <= 0:
		w.reset()
	case !suspicious:
	case w.everythingFails(now): // the treatment is not the cause
		w.reset()
	default:
		w.suspend(now)
	}
}

// everythingFails reports whether the control and the untouched fail as well.
func (w *tripwire) everythingFails(now time.Time) bool {
	return w.otherAnswers.answers > 0 && !w.errorsAreRare(w.otherAnswers, now)
}

// weigh adds an answer of the treatment to the CUSUM.
func (w *tripwire) weigh(to recipient, failed bool) {
	w.seen.Answers++
	if !failed {
		w.sum += successWeight
		return
	}
	w.seen.Errors++
	if w.errors[to] < countedErrorsPerUser {
		w.sum += errorWeight
	}
	if w.errors == nil {
		w.errors = make(map[recipient]int)
	}
	w.errors[to]++
}

// suspend begins a suspension and reports it.
func (w *tripwire) suspend(now time.Time) {
	w.suspended = true
	w.seen.Experiment, w.seen.Start, w.seen.Users = w.experiment, now.UTC().Truncate(time.Microsecond), int64(len(w.errors))
	w.onChange(w.seen)
}

// reset ends a suspension, and forgets all answers except those in untouchedHour.
func (w *tripwire) reset() {
	w.suspended, w.recent, w.sum, w.errors, w.seen, w.otherAnswers = false, nil, 0, nil, experiment.Suspension{}, tally{}
}

// errorsAreRare reports whether the share of errors is so small that this cannot be an outage of everything.
func (w *tripwire) errorsAreRare(t tally, now time.Time) bool {
	limit := min(max(rareErrorShare, 2*w.untouchedHour.share(now)), maxRareErrorShare)
	return t.share() < limit
}

// addUntouchedAnswer counts an answer of an untouched Service, and judges a suspension by it. inExperiment says whether the experiment
// includes the request; during a suspension only such answers count.
func (w *tripwire) addUntouchedAnswer(inExperiment, failed bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.suspended {
		w.untouchedHour.add(failed, now)
		if w.sum > 0 {
			w.otherAnswers.add(failed)
		}
		return
	}
	if !inExperiment {
		return
	}
	w.seen.Untouched++
	if failed {
		w.seen.UntouchedErrors++
	}
	w.recent = append(w.recent, failed)
	w.recent = w.recent[max(0, len(w.recent)-recoveredAnswers):]
	if w.seen.Fault != experiment.FaultTreatment { // otherwise steer rolls back, and the suspension stays
		w.judge(now)
	}
}

// judge decides whether the treatment was the cause of a suspension, once there are enough answers of the untouched.
func (w *tripwire) judge(now time.Time) {
	took := now.Sub(w.seen.Start)
	enough := w.seen.Untouched >= minUntouchedAnswers && took >= minUntouchedTime || took >= maxUntouchedTime
	untouched := tally{w.seen.Untouched, w.seen.UntouchedErrors}
	switch {
	case !enough:
	case w.errorsAreRare(untouched, w.seen.Start):
		w.seen.Fault = experiment.FaultTreatment
		w.onChange(w.seen)
	case w.recovered():
		w.seen.Fault = experiment.FaultEverything
		w.onChange(w.seen)
		w.reset()
	}
}

// recovered reports whether the last answers of the untouched were good enough to end the suspension.
func (w *tripwire) recovered() bool {
	errors := 0
	for _, failed := range w.recent {
		if failed {
			errors++
		}
	}
	return len(w.recent) == recoveredAnswers && float64(errors) < rareErrorShare*recoveredAnswers
}

// isSuspended reports whether no request may go to an arm.
func (w *tripwire) isSuspended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.suspended
}

// tally counts answers.
type tally struct{ answers, errors int64 }

func (t *tally) add(failed bool) {
	t.answers++
	if failed {
		t.errors++
	}
}

// share returns the share of errors; 0 without answers.
func (t *tally) share() float64 {
	if t.answers == 0 {
		return 0
	}
	return float64(t.errors) / float64(t.answers)
}

// lastHour counts the answers of the last hour by minute.
type lastHour struct {
	minutes [60]struct {
		tally
		at int64
	}
}

func (p *lastHour) add(failed bool, now time.Time) {
	at := now.Unix() / 60
	m := &p.minutes[at%60]
	if m.at != at {
		m.at, m.tally = at, tally{}
	}
	m.add(failed)
}

// share returns the share of errors in the hour that ends at before; 0 without answers.
func (p *lastHour) share(before time.Time) float64 {
	at := before.Unix() / 60
	var all tally
	for _, m := range p.minutes {
		if m.at > at-60 && m.at <= at {
			all.answers, all.errors = all.answers+m.answers, all.errors+m.errors
		}
	}
	return all.share()
}

// tripwires has a tripwire for each experiment in force. A tripwire stays the same as long as its experiment does.
type tripwires struct {
	onChange func(experiment.Suspension)

	mu  sync.Mutex
	all map[tripwireKey]*tripwire
}

// tripwireKey distinguishes experiments that had the same name, and new arms from the arms before them.
type tripwireKey struct {
	name, salt string
	armed      int64 // Unix microseconds
}

func keyOf(r *experiment.Rules) tripwireKey {
	return tripwireKey{r.Name, r.Salt, r.ArmedAt.UnixMicro()}
}

// forExperiment returns the tripwire of an experiment. It creates one for a new experiment.
func (w *tripwires) forExperiment(r *experiment.Rules) *tripwire {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[tripwireKey]*tripwire)
	}
	if w.all[keyOf(r)] == nil {
		w.all[keyOf(r)] = &tripwire{experiment: r.Name, onChange: func(s experiment.Suspension) {
			if w.onChange != nil {
				w.onChange(s)
			}
		}}
	}
	return w.all[keyOf(r)]
}

// keepOnly forgets the tripwires of experiments that are no longer in force.
func (w *tripwires) keepOnly(inForce []*experiment.Rules) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := make(map[tripwireKey]bool)
	for _, r := range inForce {
		kept[keyOf(r)] = true
	}
	for key := range w.all {
		if !kept[key] {
			delete(w.all, key)
		}
	}
}
