package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// ArmRequests are an arm's requests in one window, and those of them that were bad.
type ArmRequests struct {
	Start         time.Time
	Arm           experiment.Arm
	Requests, Bad int64
}

// Span is a time from which requests are read.
type Span struct {
	Experiment string
	Begin, End time.Time
}

// Ratio reads a metric of kind ratio, window by window, in their order. over is a bound of experiment.LatencyBounds, or 0.
func (s *Snapshot) Ratio(ctx context.Context, metric Metric, span Span, over time.Duration) ([]ArmRequests, error) {
	args := pgx.NamedArgs{"experiment": span.Experiment, "begin": span.Begin, "end": span.End, "over_bucket": nil}
	if over > 0 {
		bound := slices.Index(experiment.LatencyBounds, float64(over)/float64(time.Millisecond))
		if bound < 0 {
			return nil, fmt.Errorf("over %s: expected one of the bounds of latency, in ms: %v", over, experiment.LatencyBounds)
		}
		args["over_bucket"] = bound + 2 // arrays begin at 1, and the bound's own bucket is not above it
	}
	return collect(ctx, s, pgx.RowToStructByPos[ArmRequests], `
		select start, arm, requests::bigint, bad::bigint
		from (`+metric.sql+`) w
		order by start, arm`, args)
}

// Histogram is an arm's over a span of time.
type Histogram struct {
	Span     int
	Arm      experiment.Arm
	Requests []int64 // by bucket of experiment.LatencyBounds, and those above
}

// Histograms reads a metric of kind quantiles in spans of time of equal length, in their order. Rows are added up as they
// come: one by one they are many, and PostgreSQL would take each of them apart.
func (s *Snapshot) Histograms(ctx context.Context, metric Metric, span Span, every time.Duration) ([]Histogram, error) {
	type key struct {
		span int
		arm  string
	}
	sums := make(map[key][]int64)
	var (
		start   time.Time
		arm     string
		buckets []int64
		wrong   error
	)
	if err := s.each(ctx, []any{&start, &arm, &buckets}, func() error {
		if len(buckets) != len(experiment.LatencyBounds)+1 {
			wrong = fmt.Errorf("latencies of %s have %d buckets: expected %d", start, len(buckets), len(experiment.LatencyBounds)+1)
			return wrong
		}
		k := key{int(start.Sub(span.Begin) / every), arm}
		if sums[k] == nil {
			sums[k] = make([]int64, len(buckets))
		}
		for i, n := range buckets {
			sums[k][i] += n
		}
		return nil
	}, metric.sql, pgx.NamedArgs{"experiment": span.Experiment, "begin": span.Begin, "end": span.End}); err != nil {
		return nil, cmp.Or(wrong, failure(err))
	}
	var list []Histogram
	for k, requests := range sums {
		list = append(list, Histogram{k.span, experiment.Arm(k.arm), requests})
	}
	slices.SortFunc(list, func(a, b Histogram) int { return cmp.Or(a.Span-b.Span, cmp.Compare(a.Arm, b.Arm)) })
	return list, nil
}
