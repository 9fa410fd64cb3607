package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// Period has the requests of both arms in one count period, and how many of them were bad.
type Period struct{ Requests, Bad experiment.Counts }

// Span is the span of time of an experiment from which requests are read.
type Span struct {
	Experiment string
	Begin, End time.Time
}

// Stratum is one Service at one step. Counts from before Services were distinguished belong to the Service "".
type Stratum struct {
	Step    int
	Service string
}

// Periods has the consecutive periods of one stratum, from the first to the last with a request. Periods between them without a
// request are zero.
type Periods struct {
	Stratum
	Start   time.Time // of the first period
	Periods []Period
}

// Periods reads a metric of kind ratio in a span of time, ordered by step and Service. over is the bound of a guardrail of the
// experiment, or 0.
func (s *Snapshot) Periods(ctx context.Context, metric Metric, span Span, over time.Duration) ([]Periods, error) {
	bound, err := s.boundPosition(ctx, span.Experiment, over)
	if err != nil {
		return nil, err
	}
	origin := span.Begin.Truncate(experiment.CountPeriod)
	found := make(map[Stratum][]Period) // from origin on
	var (
		at            Stratum
		treated       bool
		start         time.Time
		requests, bad int64
	)
	err = s.each(ctx, []any{&at.Step, &at.Service, &treated, &start, &requests, &bad}, func() error {
		periods := found[at]
		nth := int(start.Sub(origin) / experiment.CountPeriod)
		if nth >= len(periods) { // most periods come in order
			periods = append(periods, make([]Period, nth+1-len(periods))...)
			found[at] = periods
		}
		if treated {
			periods[nth].Requests.Treatment, periods[nth].Bad.Treatment = requests, bad
		} else {
			periods[nth].Requests.Control, periods[nth].Bad.Control = requests, bad
		}
		return nil
	}, `
		select c.step, c.service, c.arm = 'treatment', c.start, m.requests, m.bad
		from windows c
		cross join lateral (`+metric.sql+`) m
		where c.experiment = @experiment and c.start >= @begin and c.start < @end and m.requests > 0`,
		pgx.NamedArgs{"experiment": span.Experiment, "begin": span.Begin, "end": span.End, "bound": bound})
	if err != nil {
		return nil, failure(err)
	}
	list := make([]Periods, 0, len(found))
	for _, at := range sortedStrata(found) {
		periods := found[at]
		first := slices.IndexFunc(periods, func(w Period) bool { return w != Period{} })
		list = append(list, Periods{at, origin.Add(time.Duration(first) * experiment.CountPeriod), periods[first:]})
	}
	return list, nil
}

// Tally counts requests, and how many of them were bad.
type Tally struct{ Requests, Bad int64 }

// Buckets has the requests of one stratum by bucket of units, for all periods together.
type Buckets struct {
	Stratum
	Arms [2][experiment.Buckets]Tally // of control, and of treatment
}

// Add adds the counts of another stratum.
func (b *Buckets) Add(other Buckets) {
	for arm, tallies := range other.Arms {
		for bucket, t := range tallies {
			b.Arms[arm][bucket].Requests += t.Requests
			b.Arms[arm][bucket].Bad += t.Bad
		}
	}
}

// Buckets reads a metric of kind ratio of an experiment, ordered by step and Service. It has everything that was counted until now,
// because the counts by bucket have no time. over is the bound of a guardrail of the experiment, or 0.
func (s *Snapshot) Buckets(ctx context.Context, metric Metric, name string, over time.Duration) ([]Buckets, error) {
	return s.buckets(ctx, "buckets", metric, name, over)
}

// Baseline is Buckets for the counts from before the first step. The step is the one that opened the unit's slot later.
func (s *Snapshot) Baseline(ctx context.Context, metric Metric, name string, over time.Duration) ([]Buckets, error) {
	return s.buckets(ctx, "baselines", metric, name, over)
}

func (s *Snapshot) buckets(ctx context.Context, table string, metric Metric, name string, over time.Duration) (list []Buckets, err error) {
	bound, err := s.boundPosition(ctx, name, over)
	if err != nil {
		return nil, err
	}
	var (
		at     Stratum
		arm    int
		bucket int
		tally  Tally
	)
	err = s.each(ctx, []any{&at.Step, &at.Service, &arm, &bucket, &tally.Requests, &tally.Bad}, func() error {
		if last := len(list) - 1; last < 0 || list[last].Stratum != at {
			list = append(list, Buckets{Stratum: at})
		}
		list[len(list)-1].Arms[arm][bucket] = tally
		return nil
	}, `
		select c.step, c.service, (c.arm = 'treatment')::integer, c.bucket, m.requests, m.bad
		from `+table+` c
		cross join lateral (`+metric.sql+`) m
		where c.experiment = @experiment
		order by c.step, c.service collate "C"`,
		pgx.NamedArgs{"experiment": name, "bound": bound})
	return list, failure(err)
}

// boundPosition returns the position of a guardrail's bound among the bounds of its experiment, from 1, as in the rows; 0 if over is 0.
func (s *Snapshot) boundPosition(ctx context.Context, name string, over time.Duration) (int, error) {
	if over == 0 {
		return 0, nil
	}
	started, err := s.Experiment(ctx, name)
	if err != nil {
		return 0, err
	}
	bounds := started.Spec.Metrics.Bounds()
	at := slices.Index(bounds, experiment.Duration(over))
	if at < 0 {
		return 0, fmt.Errorf("over %s: expected one of the bounds of experiment %s: %v", over, name, bounds)
	}
	return at + 1, nil
}

func sortedStrata[V any](found map[Stratum]V) []Stratum {
	return slices.SortedFunc(maps.Keys(found), func(a, b Stratum) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Service, b.Service))
	})
}

// Histogram is the latency histogram of an arm in one span of time.
type Histogram struct {
	Span     int
	Arm      experiment.Arm
	Requests []int64 // by intervals of experiment.LatencyBounds, and for longer times
}

// Histograms reads a metric of kind quantiles in consecutive spans of equal length. The statement has a separate sum for each
// interval, because taking arrays apart takes PostgreSQL five times as long. The counts of a period fit into integers, which
// PostgreSQL adds up in half the time of bigints.
func (s *Snapshot) Histograms(ctx context.Context, metric Metric, span Span, every time.Duration) ([]Histogram, error) {
	buckets := len(experiment.LatencyBounds) + 1
	sums := make([]string, buckets)
	for i := range sums {
		sums[i] = fmt.Sprintf("coalesce(sum(buckets[%d]::integer), 0)", i+1)
	}
	var wrong *time.Time
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (h Histogram, err error) {
		var start *time.Time
		err = row.Scan(&h.Span, &h.Arm, &h.Requests, &start)
		wrong = cmp.Or(wrong, start)
		return h, err
	}, `
		select span, arm, array[`+strings.Join(sums, ", ")+`]::bigint[], min(start) filter (where cardinality(buckets) <> @buckets)
		from (
			select start, arm, buckets, `+nth(`start - @begin`)+` as span
			from (`+metric.sql+`) w
		offset 0) w
		group by span, arm
		order by span, arm`,
		pgx.NamedArgs{"experiment": span.Experiment, "begin": span.Begin, "end": span.End, "every": every, "buckets": buckets})
	if err == nil && wrong != nil {
		err = fmt.Errorf("latencies of %s: expected %d buckets in each", wrong.UTC(), buckets)
	}
	return list, err
}
