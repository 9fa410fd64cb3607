package main

import (
	"testing"
)

// BenchmarkDrain publishes a backlog of 100 000 events of 10 000 users to a subscriber in the same process.
func BenchmarkDrain(b *testing.B) {
	const users, each = 10_000, 10
	for b.Loop() {
		b.StopTimer()
		f := newFixture(b, nil)
		f.writeEvents(users, each)
		f.exec(`analyze outbox`)
		r := f.relay()
		b.StartTimer()
		stop := run(b, r)
		eventually(b, "empty", func() bool { return f.isTrue(empty) })
		stop()
		if n := f.arrived(); n != users*each {
			b.Errorf("%d arrived", n)
		}
	}
	b.ReportMetric(float64(b.N)*users*each/b.Elapsed().Seconds(), "events/s")
}
