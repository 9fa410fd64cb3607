package readout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

func (r *reading) span() store.Span {
	return store.Span{Experiment: r.Name, Begin: r.begin, End: r.end.Add(-experiment.CountPeriod)} // whole count periods only
}

// recentTraffic is how recent the last requests of a step must be if the step is to pass. After traffic has ended, nothing
// more is learned.
const recentTraffic = 10 * time.Minute

// judgeGuardrails judges each guardrail at each step, by the step's own requests.
func (r *reading) judgeGuardrails() error {
	for _, g := range r.Spec.Metrics.Guardrails {
		judged, err := r.judgeGuardrail(g)
		if err != nil {
			return err
		}
		r.report.Guardrails = append(r.report.Guardrails, judged)
	}
	return nil
}

func (r *reading) judgeGuardrail(g experiment.Guardrail) (Guardrail, error) {
	metric, err := store.MetricNamed(g.Name, store.Ratio)
	if err != nil {
		return Guardrail{}, fmt.Errorf("guardrail: %w", err)
	}
	requests, err := r.readRequests(metric, time.Duration(g.Over))
	if err != nil {
		return Guardrail{}, fmt.Errorf("guardrail %s: %w", g.Name, err)
	}
	judged := Guardrail{Name: g.Name, Label: metric.Label, About: metric.About, Margin: float64(g.Margin), Steps: []GuardrailStep{}}
	judged.GuardrailStep = GuardrailStep{State: experiment.GuardInconclusive, Early: true, Services: []ServiceHarm{}, LeftOut: []LeftOut{}}
	if g.Over > 0 {
		judged.Over = g.Over.String()
	}
	test := stats.HarmTest{Margin: float64(g.Margin), Alpha: r.alpha, Tests: len(r.Spec.Metrics.Guardrails) * len(r.Spec.Ramp.Steps)}
	for i := range r.steps {
		step, err := r.guardrailAt(i, test, requests)
		if err != nil {
			return Guardrail{}, fmt.Errorf("guardrail %s: %w", g.Name, err)
		}
		step.Sentence = judged.sentence(&step, r.Spec.Metrics.Before() > 0)
		judged.Steps = append(judged.Steps, step)
	}
	judged.takeDecisiveStep()
	return judged, nil
}

// requestCounts has the requests of both arms at all steps: by count period, by bucket of units, and by bucket in the baseline.
type requestCounts struct {
	periods           []store.Periods
	buckets, baseline []store.Buckets
}

// readRequests reads the requests that a guardrail counts. For a share of slow requests, over is the limit.
func (r *reading) readRequests(metric store.Metric, over time.Duration) (c requestCounts, err error) {
	if c.periods, err = r.rows.Periods(r.ctx, metric, r.span(), over); err != nil {
		return c, err
	}
	if c.buckets, err = r.rows.Buckets(r.ctx, metric, r.Name, over); err != nil {
		return c, err
	}
	if r.Spec.Metrics.Before() > 0 {
		c.baseline, err = r.rows.Baseline(r.ctx, metric, r.Name, over)
	}
	return c, err
}

// takeDecisiveStep sets the step that decides: the first step that is breached, or otherwise the present one, because a
// step passes only by its own requests.
func (g *Guardrail) takeDecisiveStep() {
	if len(g.Steps) == 0 {
		return
	}
	decisive := g.Steps[len(g.Steps)-1]
	if i := slices.IndexFunc(g.Steps, func(s GuardrailStep) bool { return s.State == experiment.GuardBreach }); i >= 0 {
		decisive = g.Steps[i]
	}
	g.GuardrailStep = decisive
}

// guardrailAt judges one step. i is the step's index in the report. In package store, a step has the number that it has in
// the ramp.
func (r *reading) guardrailAt(i int, test stats.HarmTest, requests requestCounts) (GuardrailStep, error) {
	number := slices.Index(r.Spec.Ramp.Steps, r.steps[i].Percent)
	step := GuardrailStep{Step: i, State: experiment.GuardInconclusive, Services: []ServiceHarm{}, LeftOut: []LeftOut{}}
	traffic, last := trafficOf(number, requests)
	if len(traffic) == 0 {
		step.Early = true
		return step, nil
	}
	result, err := test.Judge(traffic)
	if err != nil {
		return step, err
	}
	step.Early, step.Harm, step.CountPeriods, step.Bounds = result.Early, result.Harm.Value, result.Harm.N, toInterval(result.Bounds)
	step.Control = Requests{result.Control.N, result.Control.Successes, result.Rates[0]}
	step.Treated = Requests{result.Treatment.N, result.Treatment.Successes, result.Rates[1]}
	if result.HasBaseline {
		step.Baseline = &result.Baseline
	}
	step.Recent, step.State = finite(result.Recent.Lower), guards[result.Finding]
	for _, s := range result.Services {
		step.Services = append(step.Services, ServiceHarm{s.Service, guards[s.Finding], s.Harm.Value, toInterval(s.Bounds)})
	}
	for _, s := range result.LeftOut {
		step.LeftOut = append(step.LeftOut, LeftOut{s.Service, s.Share})
	}
	if step.Harmed = result.Harmed; len(result.Services) == 1 { // a single Service is the whole
		step.Harmed = nil
	}
	ends := r.end
	if i+1 < len(r.steps) {
		ends = r.steps[i+1].At
	}
	if step.Stale = ends.Sub(last) > recentTraffic; step.Stale && step.State == experiment.GuardPass {
		step.State = experiment.GuardInconclusive
	}
	return step, nil
}

// guards translates the findings of stats.HarmTest.
var guards = map[stats.Finding]experiment.Guard{stats.Pass: experiment.GuardPass, stats.Breach: experiment.GuardBreach, stats.Inconclusive: experiment.GuardInconclusive}

// trafficOf returns the requests of each Service in both arms at one step, from the step's first count period to its last.
// last is the end of the last period in which both arms had requests. The baseline of a step has the units whose slots were
// opened by this step or by one before it.
func trafficOf(step int, requests requestCounts) (traffic []stats.Traffic, last time.Time) {
	first, end := periodsOf(step, requests.periods)
	for _, w := range requests.periods {
		if w.Step != step {
			continue
		}
		t := stats.Traffic{Service: w.Service, Periods: make([]stats.Period, end.Sub(first)/experiment.CountPeriod)}
		offset := int(w.Start.Sub(first) / experiment.CountPeriod)
		for i, counted := range w.Periods {
			t.Periods[offset+i] = stats.Period{
				Control:   stats.Proportion{Successes: counted.Bad.Control, N: counted.Requests.Control},
				Treatment: stats.Proportion{Successes: counted.Bad.Treatment, N: counted.Requests.Treatment},
			}
			if counted.Requests.Min() > 0 {
				last = later(last, w.Start.Add(time.Duration(i+1)*experiment.CountPeriod))
			}
		}
		if at := slices.IndexFunc(requests.buckets, func(b store.Buckets) bool { return b.Stratum == w.Stratum }); at >= 0 {
			t.Buckets = proportions(requests.buckets[at].Arms)
		}
		var before store.Buckets
		for _, b := range requests.baseline {
			if b.Service == w.Service && b.Step <= step {
				before.Add(b)
				t.Baseline = proportions(before.Arms)
			}
		}
		traffic = append(traffic, t)
	}
	return traffic, last
}

// periodsOf returns the start of a step's first count period and the end of its last, over all Services.
func periodsOf(step int, periods []store.Periods) (first, end time.Time) {
	for _, w := range periods {
		if w.Step != step {
			continue
		}
		if first.IsZero() || w.Start.Before(first) {
			first = w.Start
		}
		end = later(end, w.Start.Add(time.Duration(len(w.Periods))*experiment.CountPeriod))
	}
	return first, end
}

func proportions(arms [2][experiment.Buckets]store.Tally) (all [2][]stats.Proportion) {
	for arm, buckets := range arms {
		for _, b := range buckets {
			all[arm] = append(all[arm], stats.Proportion{Successes: b.Bad, N: b.Requests})
		}
	}
	return all
}

// sentence says what a guardrail shows at a step. based tells whether the experiment should have a baseline.
func (g *Guardrail) sentence(s *GuardrailStep, based bool) string {
	name := g.Title()
	rates := fmt.Sprintf("%s in the treatment, %s in the control", rate(s.Treated), rate(s.Control))
	limit := figures.Points(g.Margin)
	text := ""
	switch {
	case s.CountPeriods == 0:
		return fmt.Sprintf("%s: at least one arm has had no requests yet", name)
	case s.State == experiment.GuardBreach && len(s.Harmed) > 0:
		text = fmt.Sprintf("%s of %s: worse by more than the limit of %s; %s of all Services", name, strings.Join(s.Harmed, " and "), limit, rates)
	case s.State == experiment.GuardBreach && (s.Bounds.Lower == nil || *s.Bounds.Lower <= g.Margin):
		text = fmt.Sprintf("%s: recently at least %s worse; the limit is %s; %s", name, figures.Points(*s.Recent), limit, rates)
	case s.State == experiment.GuardBreach:
		text = fmt.Sprintf("%s: at least %s worse; the limit is %s; %s", name, figures.Points(*s.Bounds.Lower), limit, rates)
	case s.Early:
		text = fmt.Sprintf("%s: %s; it can pass once each arm has %d periods of 10 s and %d requests", name, rates, stats.GuardrailPeriods, stats.GuardrailRequests)
	case s.Bounds.Upper == nil || s.Bounds.Lower == nil:
		text = fmt.Sprintf("%s: %s; too few people made these requests to tell", name, rates)
	case s.State == experiment.GuardPass:
		text = fmt.Sprintf("%s: at most %s worse; the limit is %s; %s", name, figures.Points(max(0, *s.Bounds.Upper)), limit, rates)
	case s.Stale && *s.Bounds.Upper < g.Margin:
		text = fmt.Sprintf("%s: at least one arm has had no requests in the last %s, and a step passes only on recent requests; before that, %s", name, recentTraffic, rates)
	default:
		text = fmt.Sprintf("%s: between %s and %s worse, which does not yet tell whether the limit of %s holds; %s", name, figures.Points(*s.Bounds.Lower), figures.Points(*s.Bounds.Upper), limit, rates)
	}
	switch {
	case s.Baseline != nil && *s.Baseline != 0:
		text += fmt.Sprintf("; the arms differed by %s before anybody was treated, which is subtracted", figures.Points(*s.Baseline))
	case s.Baseline == nil && based:
		text += "; nothing is subtracted, because the baseline has too few requests"
	}
	for _, left := range s.LeftOut {
		if left.Share > 0 {
			text += fmt.Sprintf("; %s, with %s of the control's requests, is left out because it had too few", left.Service, figures.Percent(left.Share))
		}
	}
	return text
}

// Title is the guardrail's name for people, with its time limit if it has one. The guardrail's sentences begin with the
// title and a colon.
func (g *Guardrail) Title() string {
	if g.Over != "" {
		return g.Label + " (over " + g.Over + ")"
	}
	return g.Label
}

func rate(r Requests) string {
	if r.Requests == 0 {
		return "none"
	}
	return figures.Percent(r.Rate)
}

// guardrailState returns the state of all guardrails together, and the sentence of the guardrail that decides.
func (r *Report) guardrailState() (state experiment.Guard, reason string) {
	state = experiment.GuardPass
	for _, g := range r.Guardrails {
		switch {
		case g.State == experiment.GuardBreach:
			return g.State, g.Sentence
		case g.State == experiment.GuardInconclusive && state == experiment.GuardPass:
			state, reason = g.State, g.Sentence
		}
	}
	return state, reason
}

// latencySpan returns the length of the spans in which latencies are counted. It is long compared with disturbances that
// make many requests slow together. There are at most about a thousand spans.
func (r *reading) latencySpan() time.Duration {
	return max(10*experiment.CountPeriod, (r.end.Sub(r.begin) / 1000).Truncate(experiment.CountPeriod))
}

func (r *reading) readLatency() error {
	for _, metric := range store.Metrics() {
		if metric.Kind != store.Quantiles {
			continue
		}
		counted, err := r.rows.Histograms(r.ctx, metric, r.span(), r.latencySpan())
		if err != nil || len(counted) == 0 {
			return err
		}
		return r.compareQuantiles(counted)
	}
	return nil
}

func (r *reading) compareQuantiles(counted []store.Histogram) error {
	l := &Latency{Bounds: experiment.LatencyBounds, Control: make([]int64, len(experiment.LatencyBounds)+1), Treatment: make([]int64, len(experiment.LatencyBounds)+1)}
	var spans [2][]stats.Histogram
	totals := [2][]int64{l.Control, l.Treatment}
	for _, c := range counted {
		arm := armIndex(c.Arm)
		spans[arm] = append(spans[arm], stats.Histogram{Bounds: experiment.LatencyBounds, Counts: c.Requests})
		for i, n := range c.Requests {
			totals[arm][i] += n
		}
	}
	for _, q := range []float64{.5, .95, .99} {
		quantile := Quantile{Q: q}
		compared, err := stats.CompareQuantiles(q, spans[0], spans[1], r.alpha)
		switch {
		case err == nil:
			quantile.Control, quantile.Treatment, quantile.Difference = &compared.Control.Value, &compared.Treatment.Value, &compared.Difference
			quantile.Interval = toInterval(compared.Interval)
		case !tooLittleData(err):
			return errors.Join(errors.New("latencies"), err)
		}
		l.Quantiles = append(l.Quantiles, quantile)
	}
	r.report.Latency = l
	return nil
}
