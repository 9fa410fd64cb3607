package experiment_test

import (
	"testing"

	"warble/shared/experiment"
)

func BenchmarkSlot(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		experiment.Slot("3f6c2b9d1e", "gophers")
	}
}

func BenchmarkAssign(b *testing.B) {
	r := rules("likes", 5000)
	b.ReportAllocs()
	for b.Loop() {
		r.Assign(1<<62, "gophers")
	}
}

func BenchmarkBucket(b *testing.B) {
	r := rules("likes", 5000)
	b.ReportAllocs()
	for b.Loop() {
		r.Bucket("gophers")
	}
}
