package readout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"warble/shared/experiment"
	"warble/shared/stats"
)

// Rate is how often something happened.
type Rate struct {
	Happened int `json:"happened"`
	Runs     int `json:"runs"`
}

func (r *Rate) count(happened bool) {
	r.Runs++
	if happened {
		r.Happened++
	}
}

// Value is the share of runs in which it happened.
func (r Rate) Value() float64 { return float64(r.Happened) / float64(max(1, r.Runs)) }

// Error is the binomial standard error of the share.
func (r Rate) Error() float64 {
	return math.Sqrt(r.Value() * (1 - r.Value()) / float64(max(1, r.Runs)))
}

// Allowance is three binomial standard errors of an expected share in so many runs.
func (r Rate) Allowance(share float64) float64 {
	return 3 * math.Sqrt(share*(1-share)/float64(max(1, r.Runs)))
}

// Simulated is the result of many experiments in one world.
type Simulated struct {
	World World `json:"world"`
	Runs  int   `json:"runs"`
	// Ends counts the verdicts with which the experiments ended: the first verdict that ends an experiment, or the one at
	// the planned end.
	Ends map[Outcome]int `json:"ends"`
	// Wrong is how often the primary metric's interval excluded the truth at any look. Naive is how often a t interval of
	// users did; a t interval ignores that there are several looks, and that users belong to communities. If there is no
	// effect, these are false positives.
	Wrong Rate `json:"wrong"`
	Naive Rate `json:"naive"`
	// Covered is how often the last interval contained the truth, among experiments that gave one. Told is how often an
	// experiment gave an interval. It is counted because a rule that never answers is never wrong.
	Covered Rate `json:"covered"`
	Told    Rate `json:"told"`
	// Won, Lost and Red are how often an experiment ever won, was rolled back, and was withheld as unsound.
	Won  Rate `json:"won"`
	Lost Rate `json:"lost"`
	Red  Rate `json:"red"`
	// Passed and Breached are how often the guardrails ever passed and were breached.
	Passed   Rate `json:"passed"`
	Breached Rate `json:"breached"`
	// Days is the median time from the start to the end, in days.
	Days float64 `json:"days"`
}

// Simulate runs experiments in a world, through the code that judges rows of PostgreSQL. The same seed gives the same
// figures, on any number of processors. progress is called after each run; it may be nil.
func Simulate(ctx context.Context, w World, runs int, seed uint64, progress func(done, runs int)) (Simulated, error) {
	if err := w.Check(runs); err != nil {
		return Simulated{}, err
	}
	results := make([]run, runs)
	var (
		mu    sync.Mutex
		done  int
		wrong error
		all   sync.WaitGroup
		next  = make(chan int)
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := range next {
				result, err := w.run(ctx, seed+uint64(i)) //nolint:gosec // never negative
				mu.Lock()
				results[i] = result
				wrong = errors.Join(wrong, err)
				done++
				if progress != nil {
					progress(done, runs)
				}
				mu.Unlock()
			}
		})
	}
	for i := range runs {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	all.Wait()
	if err := errors.Join(ctx.Err(), wrong); err != nil {
		return Simulated{}, fmt.Errorf("simulation %s: %w", w.Name, err)
	}
	return w.sumRuns(results), nil
}

// Check returns what is wrong with a world, or with the number of runs.
func (w World) Check(runs int) error {
	switch {
	case runs < 1:
		return fmt.Errorf("%d runs: expected 1 or more", runs)
	case len(w.Steps) == 0:
		return fmt.Errorf("world %s: no steps: expected 1 or more", w.Name)
	case w.Unit == experiment.Request && (w.CountPeriods < stats.GuardrailPeriods || w.Traffic == nil):
		return fmt.Errorf("world %s: %d count periods: expected %d or more, and traffic", w.Name, w.CountPeriods, stats.GuardrailPeriods)
	case w.Unit == experiment.Request:
		return nil
	case w.Units < 1 || w.Members < 1 || w.Mean <= 0 || w.Looks < 1 && w.Every < 1:
		return fmt.Errorf("world %s: expected units, members, a mean and looks of more than 0", w.Name)
	case w.Hold <= 0 || w.Window <= 0 || w.MinimumEffect <= 0 || w.Alpha <= 0 || w.Alpha >= 1 || w.Effect <= -1:
		return fmt.Errorf("world %s: expected a hold, a window, a minimum effect and an alpha of more than 0, an alpha of less than 1 and an effect of more than -100%%", w.Name)
	case w.Communities == nil && w.Users == nil && w.CV*w.CV < w.leastCV():
		return fmt.Errorf("world %s: coefficient of variation %g: expected %.3g or more, because counts with a mean of %g vary at least so much",
			w.Name, w.CV, math.Sqrt(w.leastCV()), w.Mean)
	}
	return nil
}

// run is what was seen of one experiment.
type run struct {
	end                        Outcome
	days                       float64
	wrong, naive, told, covers bool
	won, lost, red             bool
	passed, breached           bool
}

// run simulates one experiment, and looks at it until its planned end.
func (w World) run(ctx context.Context, seed uint64) (r run, err error) {
	s := w.simulate(seed)
	times := s.looks()
	for i, at := range times {
		last := i == len(times)-1
		report, err := w.look(ctx, s, at, last && w.Tilt == even)
		if err != nil {
			return r, err
		}
		r.addPrimary(report.Primary, w)
		if report.Primary != nil {
			r.naive = r.naive || s.naive(at, w.Effect*w.Mean)
		}
		moves := r.addVerdict(&report)
		if r.end == "" && (moves || last) {
			r.end, r.days = report.Verdict, at.Sub(simulatedStart).Hours()/24
		}
	}
	return r, nil
}

// addPrimary records whether the primary metric's interval contains the truth at a look.
func (r *run) addPrimary(e *Effect, w World) {
	if e != nil && e.Speaks && e.decisiveInterval() != (Interval{}) {
		r.told, r.covers = true, e.containsTruth(w)
		r.wrong = r.wrong || !r.covers
	}
}

// addVerdict records the verdict of a look, and reports whether it ends the experiment.
func (r *run) addVerdict(report *Report) (moves bool) {
	guard, _ := report.guardrailState()
	r.passed, r.breached = r.passed || guard == experiment.GuardPass, r.breached || guard == experiment.GuardBreach
	r.red = r.red || report.Verdict == Withheld
	r.won = r.won || report.Verdict == Outcome(experiment.Win)
	switch report.Verdict {
	case Outcome(experiment.Harm), Outcome(experiment.NotWorthIt), Breach:
		r.lost = true
		return true
	case Outcome(experiment.Win), Safe:
		return guard == experiment.GuardPass
	}
	return false
}

// containsTruth reports whether the interval of the deciding quantity contains the true effect.
func (e *Effect) containsTruth(w World) bool {
	truth := w.Effect
	if e.By == ByDifference {
		truth *= w.Mean
	}
	i := e.decisiveInterval()
	return stats.Interval{Lower: unbounded(i.Lower, -1), Upper: unbounded(i.Upper, 1)}.Contains(truth)
}

func unbounded(v *float64, sign int) float64 {
	if v == nil {
		return math.Inf(sign)
	}
	return *v
}

// look judges an experiment at one look. Unless whole, it computes only what changes from look to look: the effect, the
// guardrails and the sample ratio. To hash every unit again takes the longest, would give the same result each time, and
// would detect a broken assignment before the sample ratio can.
func (w World) look(ctx context.Context, s *simulated, at time.Time, whole bool) (Report, error) {
	r := newReading(ctx, s, s.started, at)
	r.draws = simulatedArrangements
	parts := []func() error{r.judgeGuardrails}
	if whole {
		parts = append(parts, r.checkHealth)
	}
	if err := r.count(parts...); err != nil {
		return Report{}, err
	}
	if w.Unit != experiment.Request && !whole {
		ratio, err := r.checkSampleRatio(r.exposed)
		if err != nil {
			return Report{}, err
		}
		r.report.Health = append(r.report.Health, ratio)
	}
	r.conclude()
	return *r.report, nil
}

// naive reports whether a t interval of users excludes the truth. This is what somebody sees who tests again at every look.
func (s *simulated) naive(at time.Time, truth float64) bool {
	var arms [2]stats.Estimate
	for arm := range arms {
		users := s.enteredBetween(arm, time.Time{}, at.Add(-time.Duration(s.Window)))
		p := users.all()
		mean, err := stats.Moments{N: p.N, Sum: p.SumY, SumSq: p.SumYY}.Mean()
		if err != nil {
			return false
		}
		arms[arm] = mean
	}
	d, err := stats.Difference(arms[0], arms[1])
	if err != nil {
		return false
	}
	i, err := d.Interval(s.Alpha)
	return err == nil && !i.Contains(truth)
}

func (w World) sumRuns(results []run) Simulated {
	s := Simulated{World: w, Runs: len(results), Ends: make(map[Outcome]int)}
	var days []float64
	for _, r := range results {
		s.Ends[r.end]++
		days = append(days, r.days)
		s.Wrong.count(r.wrong)
		s.Naive.count(r.naive)
		s.Told.count(r.told)
		if r.told {
			s.Covered.count(r.covers)
		}
		s.Won.count(r.won)
		s.Lost.count(r.lost)
		s.Red.count(r.red)
		s.Passed.count(r.passed)
		s.Breached.count(r.breached)
	}
	slices.Sort(days)
	s.Days = days[len(days)/2]
	return s
}
