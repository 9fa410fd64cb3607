package main

import (
	"testing"
)

// BenchmarkDrain publishes a backlog of 100 000 events of 10 000 users to a subscriber in the same process.
func BenchmarkDrain(b *testing.B) {
	const users, each = 10_000, 10
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, nil)
		w.happened(users, each)
		w.exec(`analyze outbox`)
		r := w.relay()
		b.StartTimer()
		stop := run(b, r)
		until(b, "empty", func() bool { return w.holds(empty) })
		stop()
		if n := w.arrived(); n != users*each {
			b.Errorf("%d arrived", n)
		}
	}
	b.ReportMetric(float64(b.N)*users*each/b.Elapsed().Seconds(), "events/s")
}
