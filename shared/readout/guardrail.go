package readout

import (
	"errors"
	"fmt"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

func (r *reading) span() store.Span {
	return store.Span{Experiment: r.Name, Begin: r.begin, End: r.end.Add(-experiment.Window)} // whole windows only
}

func (r *reading) guardrails() error {
	for _, g := range r.Spec.Metrics.Guardrails {
		metric, err := store.MetricNamed(g.Name, store.Ratio)
		if err != nil {
			return fmt.Errorf("guardrail: %w", err)
		}
		requests, err := r.rows.Ratio(r.ctx, metric, r.span(), time.Duration(g.Over))
		if err != nil {
			return fmt.Errorf("guardrail %s: %w", g.Name, err)
		}
		result, err := stats.Guardrail{Margin: float64(g.Margin), Alpha: r.alpha, Of: len(r.Spec.Metrics.Guardrails)}.Judge(windows(requests))
		if err != nil {
			return fmt.Errorf("guardrail %s: %w", g.Name, err)
		}
		judged := Guardrail{
			Name: g.Name, About: metric.About, Margin: float64(g.Margin), Early: result.Early, Harm: result.Harm.Value, Windows: result.Harm.N,
			Control: Requests{result.Control.N, result.Control.Successes}, Treated: Requests{result.Treatment.N, result.Treatment.Successes},
			State: map[stats.Verdict]experiment.Guard{stats.Pass: experiment.GuardPass, stats.Breach: experiment.GuardBreach, stats.Inconclusive: experiment.GuardInconclusive}[result.Verdict],
		}
		if g.Over > 0 {
			judged.Over = g.Over.String()
		}
		if result.Bounds != (stats.Interval{}) {
			judged.Bounds = known(result.Bounds)
		}
		judged.Sentence = judged.sentence()
		r.report.Guardrails = append(r.report.Guardrails, judged)
	}
	return nil
}

// windows are for the statistics what they are for the store.
func windows(counted []store.Window) []stats.Window {
	list := make([]stats.Window, len(counted))
	for i, w := range counted {
		list[i] = stats.Window{
			Control:   stats.Proportion{Successes: w.Bad.Control, N: w.Requests.Control},
			Treatment: stats.Proportion{Successes: w.Bad.Treatment, N: w.Requests.Treatment},
		}
	}
	return list
}

func (g Guardrail) sentence() string {
	name := g.Name
	if g.Over != "" {
		name += " over " + g.Over
	}
	rates := fmt.Sprintf("%s in the treatment, %s in the control", rate(g.Treated), rate(g.Control))
	switch {
	case g.Early && g.Windows == 0:
		return fmt.Sprintf("%s: no requests of both arms yet", name)
	case g.Early || g.Bounds.Upper == nil || g.Bounds.Lower == nil:
		return fmt.Sprintf("%s: %s; it speaks from %d windows of 10 s and %d requests per arm on", name, rates, stats.GuardrailWindows, stats.GuardrailRequests)
	case g.State == experiment.GuardBreach:
		return fmt.Sprintf("%s is worse by %s at least, more than the %s that are borne: %s", name, figures.Points(*g.Bounds.Lower), figures.Points(g.Margin), rates)
	case g.State == experiment.GuardPass:
		return fmt.Sprintf("%s is worse by less than %s, of the %s that are borne: %s", name, figures.Points(max(0, *g.Bounds.Upper)), figures.Points(g.Margin), rates)
	}
	return fmt.Sprintf("%s: between %s and %s worse, which is not yet told from the %s that are borne: %s", name, figures.Points(*g.Bounds.Lower), figures.Points(*g.Bounds.Upper), figures.Points(g.Margin), rates)
}

func rate(r Requests) string {
	if r.Requests == 0 {
		return "none"
	}
	return figures.Percent(float64(r.Bad) / float64(r.Requests))
}

// guard is what the guardrails say together, and why.
func (r *Report) guard() (state experiment.Guard, reason string) {
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

// latencySpan is long against what makes requests slow together, and in a long experiment as long as a thousand of them take.
func (r *reading) latencySpan() time.Duration {
	return max(10*experiment.Window, (r.end.Sub(r.begin) / 1000).Truncate(experiment.Window))
}

func (r *reading) latency() error {
	for _, metric := range store.Metrics() {
		if metric.Kind != store.Quantiles {
			continue
		}
		counted, err := r.rows.Histograms(r.ctx, metric, r.span(), r.latencySpan())
		if err != nil || len(counted) == 0 {
			return err
		}
		return r.quantiles(counted)
	}
	return nil
}

func (r *reading) quantiles(counted []store.Histogram) error {
	l := &Latency{Bounds: experiment.LatencyBounds, Control: make([]int64, len(experiment.LatencyBounds)+1), Treatment: make([]int64, len(experiment.LatencyBounds)+1)}
	var spans [2][]stats.Histogram
	totals := [2][]int64{l.Control, l.Treatment}
	for _, c := range counted {
		arm := index(c.Arm)
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
			quantile.Interval = known(compared.Interval)
		case !unsaid(err):
			return errors.Join(errors.New("latencies"), err)
		}
		l.Quantiles = append(l.Quantiles, quantile)
	}
	r.report.Latency = l
	return nil
}
