package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// Window is what the arms were asked in 10 s, and how much of that went bad.
type Window struct{ Requests, Bad experiment.Counts }

// Span is a time from which requests are read.
type Span struct {
	Experiment string
	Begin, End time.Time
}

// Ratio reads a metric of kind ratio: the windows in which either arm was asked, in their order. over is a bound of
// experiment.LatencyBounds, or 0.
func (s *Snapshot) Ratio(ctx context.Context, metric Metric, span Span, over time.Duration) (windows []Window, err error) {
	args := pgx.NamedArgs{"experiment": span.Experiment, "begin": span.Begin, "end": span.End, "over_bucket": nil}
	if over > 0 {
		bound := slices.Index(experiment.LatencyBounds, float64(over)/float64(time.Millisecond))
		if bound < 0 {
			return nil, fmt.Errorf("over %s: expected one of the bounds of latency, in ms: %v", over, experiment.LatencyBounds)
		}
		args["over_bucket"] = bound + 2 // arrays begin at 1, and the bound's own bucket is not above it
	}
	var w Window
	err = s.each(ctx, []any{&w.Requests.Control, &w.Requests.Treatment, &w.Bad.Control, &w.Bad.Treatment}, func() error {
		windows = append(windows, w)
		return nil
	}, `
		select
			coalesce(sum(requests::bigint) filter (where arm = 'control'), 0)::bigint,
			coalesce(sum(requests::bigint) filter (where arm = 'treatment'), 0)::bigint,
			coalesce(sum(bad::bigint) filter (where arm = 'control'), 0)::bigint,
			coalesce(sum(bad::bigint) filter (where arm = 'treatment'), 0)::bigint
		from (`+metric.sql+`) w
		group by start
		order by start`, args)
	return windows, failure(err)
}

// Histogram is an arm's over a span of time.
type Histogram struct {
	Span     int
	Arm      experiment.Arm
	Requests []int64 // by bucket of experiment.LatencyBounds, and those above
}

// Histograms reads a metric of kind quantiles in spans of time of equal length, in their order. Each bucket is a sum of its
// own: PostgreSQL takes an array apart in five times as long, and adds up integers, which a window's are, in half of bigints'.
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
