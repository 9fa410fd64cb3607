package main

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"warble/shared/experiment"
)

// The tripwire is a CUSUM of log-likelihood ratios over the treatment's answers: errors at 50 percent against 10 percent. It
// sees a treatment that fails 30 percent or more; what fails less the guardrails see.
var (
	tripError = math.Log(.5 / .1)
	tripWell  = math.Log(.5 / .9)
	tripAt    = math.Log(1e5) // of 100 000 sequences without a harm one trips
)

const (
	// tripPerUser is how many errors of one user count, so that it takes tripUsers of them at least: one who fails
	// everywhere, as with an account that is broken, is no treatment that fails.
	tripPerUser = 2
	tripUsers   = 4

	// What is untouched has answered the same users so often, for so long, before it is judged; or, where few come, once after
	// a longer time.
	untouchedAnswers = 8
	untouchedTime    = 5 * time.Second
	untouchedLong    = time.Minute
	// untouchedShare of its answers are errors, or twice as many as in the hour before, where everything fails and not the
	// treatment alone; and untouchedMost are, whatever the hour before was like, for it may have ended in the same outage.
	untouchedShare = .1
	untouchedMost  = .5
	// The edge goes on as before once, of so many answers in a row, fewer than untouchedShare are errors.
	recoveredAnswers = 20
)

// who is whom an answer was for.
type who struct {
	user    int64 // 0 for nobody who is known
	address netip.Addr
	unit    string // of a guest's experiment, for one who is no user of Warble's
}

// tripwire is of one experiment: where its treatment fails, both arms are suspended, and the untouched Services answer their
// users. Whether that is the treatment's fault, their answers tell.
type tripwire struct {
	experiment string
	say        func(experiment.Suspension) // is told what it sees, again with each change

	mu     sync.Mutex
	sum    float64
	errors map[who]int // while sum is above 0
	seen   experiment.Suspension
	others tally // of the control and what is untouched, while sum is above 0
	hour   past  // of what is untouched

	suspended bool
	recent    []bool // of the untouched's last answers, whether each was an error
}

// answered takes an answer of an arm.
func (w *tripwire) answered(arm experiment.Arm, of who, failed bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspended { // it was under way
		return
	}
	if arm != experiment.Treatment {
		if w.sum > 0 {
			w.others.add(failed)
		}
		return
	}
	w.seen.Answers++
	switch {
	case !failed:
		w.sum += tripWell
	case w.errors[of] < tripPerUser:
		w.sum += tripError
		fallthrough
	default:
		w.seen.Errors++
		if w.errors == nil {
			w.errors = make(map[who]int)
		}
		w.errors[of]++
	}
	switch {
	case w.sum <= 0:
		w.reset()
	case w.sum < tripAt || len(w.errors) < tripUsers:
	case w.others.answers > 0 && !w.rare(w.others, now): // everything fails, and not the treatment alone
		w.reset()
	default:
		w.suspended = true
		w.seen.Experiment, w.seen.Start, w.seen.Users = w.experiment, now.UTC().Truncate(time.Microsecond), int64(len(w.errors))
		w.say(w.seen)
	}
}

func (w *tripwire) reset() {
	w.suspended, w.recent, w.sum, w.errors, w.seen, w.others = false, nil, 0, nil, experiment.Suspension{}, tally{}
}

// rare tells whether so few of some answers were errors that not everything fails.
func (w *tripwire) rare(t tally, now time.Time) bool {
	return t.share() < min(max(untouchedShare, 2*w.hour.share(now)), untouchedMost)
}

// untouched takes an answer of an untouched Service: one of the experiment's units, while it is suspended, or of others.
func (w *tripwire) untouched(unit, failed bool, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.suspended {
		w.hour.add(failed, now)
		if w.sum > 0 {
			w.others.add(failed)
		}
		return
	}
	if !unit {
		return
	}
	w.seen.Untouched++
	if failed {
		w.seen.UntouchedErrors++
	}
	w.recent = append(w.recent, failed)
	w.recent = w.recent[max(0, len(w.recent)-recoveredAnswers):]
	if w.seen.Verdict == experiment.FaultTreatment { // it is rolled back
		return
	}
	took := now.Sub(w.seen.Start)
	enough := w.seen.Untouched >= untouchedAnswers && took >= untouchedTime || took >= untouchedLong
	switch {
	case !enough:
	case w.rare(tally{w.seen.Untouched, w.seen.UntouchedErrors}, w.seen.Start):
		w.seen.Verdict = experiment.FaultTreatment
		w.say(w.seen)
	case w.recovered():
		w.seen.Verdict = experiment.FaultEverything
		w.say(w.seen)
		w.reset()
	}
}

func (w *tripwire) recovered() bool {
	errors := 0
	for _, failed := range w.recent {
		if failed {
			errors++
		}
	}
	return len(w.recent) == recoveredAnswers && float64(errors) < untouchedShare*recoveredAnswers
}

// off tells whether nobody is to be sent to an arm.
func (w *tripwire) off() bool {
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

// share is that of errors; 0 where nothing was answered.
func (t *tally) share() float64 {
	if t.answers == 0 {
		return 0
	}
	return float64(t.errors) / float64(t.answers)
}

// past counts the answers of the last hour, by minute.
type past struct {
	minutes [60]struct {
		tally
		at int64
	}
}

func (p *past) add(failed bool, now time.Time) {
	at := now.Unix() / 60
	m := &p.minutes[at%60]
	if m.at != at {
		m.at, m.tally = at, tally{}
	}
	m.add(failed)
}

// share is that of errors in the hour before a time; 0 where nothing was answered.
func (p *past) share(before time.Time) float64 {
	at := before.Unix() / 60
	var all tally
	for _, m := range p.minutes {
		if m.at > at-60 && m.at <= at {
			all.answers, all.errors = all.answers+m.answers, all.errors+m.errors
		}
	}
	return all.share()
}

// tripwires are those of the experiments in force. Each stays as it is while its experiment does, whatever else changes.
type tripwires struct {
	say func(experiment.Suspension)

	mu  sync.Mutex
	all map[wireKey]*tripwire
}

// wireKey tells two experiments of one name apart, and arms from those that were there before them.
type wireKey struct {
	name, salt string
	armed      int64 // Unix microseconds
}

func keyOf(r *experiment.Rules) wireKey { return wireKey{r.Name, r.Salt, r.ArmedAt.UnixMicro()} }

func (w *tripwires) of(r *experiment.Rules) *tripwire {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[wireKey]*tripwire)
	}
	if w.all[keyOf(r)] == nil {
		w.all[keyOf(r)] = &tripwire{experiment: r.Name, say: func(s experiment.Suspension) {
			if w.say != nil {
				w.say(s)
			}
		}}
	}
	return w.all[keyOf(r)]
}

// keep forgets those of experiments that are not in force any more.
func (w *tripwires) keep(inForce []*experiment.Rules) {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := make(map[wireKey]bool)
	for _, r := range inForce {
		there[keyOf(r)] = true
	}
	for key := range w.all {
		if !there[key] {
			delete(w.all, key)
		}
	}
}
