package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// soakMix are the requests of the long run through the edge: four reads for each write.
var soakMix = []request{
	{Method: "GET", Path: "/auth/validate"},
	{Method: "GET", Path: "/2/tweets/" + tweetID},
	post,
	{Method: "GET", Path: "/auth/validate"},
	{Method: "GET", Path: "/2/tweets?ids=" + tweetID},
}

// soak sends many requests of many users through the edge, and fits a line to the memory of each function. It leaves out the first quarter, in
// which caches fill and the heap grows to its size.
func (b *bench) soak(ctx context.Context) (figures []figure, err error) {
	names := []string{"edge", "tweet", "validate"}
	err = b.withEdge(ctx, func(running map[string]*server) error {
		if err := b.empty(ctx); err != nil {
			return err
		}
		l := b.saturate(running["edge"], soakMix...)
		l.Requests, l.Distinct = b.requests, users
		done := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := l.run(ctx)
			done <- err
		}()
		samples := make(map[string][]float64)
		for ended := false; !ended; {
			select {
			case err := <-done:
				if err != nil {
					return err
				}
				ended = true
			case <-time.After(time.Second):
				for _, name := range names {
					m, err := running[name].memory()
					if err != nil {
						return err
					}
					samples[name] = append(samples[name], m.held)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "%d requests in %s\n", b.requests, time.Since(start).Round(time.Second))
		for _, name := range names {
			all := samples[name]
			if len(all) < 8 {
				return fmt.Errorf("%d requests ended before the memory could be measured often enough", b.requests)
			}
			quarter := len(all) / 4
			fmt.Fprintf(os.Stderr, "%s memory, median of each quarter: %.1f %.1f %.1f %.1f MiB\n", name, summarize(all[:quarter]).Median,
				summarize(all[quarter:2*quarter]).Median, summarize(all[2*quarter:3*quarter]).Median, summarize(all[3*quarter:]).Median)
			perMillion := slope(all[quarter:]) * float64(len(all)) / float64(b.requests) * 1e6
			figures = append(figures, atMost(2).figure("growth over a million requests, "+name, "MiB", []float64{perMillion}, nil))
		}
		return nil
	}, "tweet", "validate")
	return figures, err
}

// slope returns the least-squares slope of values at 0, 1, 2, ...
func slope(values []float64) float64 {
	n := float64(len(values))
	meanX, meanY := (n-1)/2, 0.0
	for _, y := range values {
		meanY += y / n
	}
	var xy, xx float64
	for i, y := range values {
		x := float64(i) - meanX
		xy += x * (y - meanY)
		xx += x * x
	}
	return xy / xx
}
