package stats

import (
	"slices"
	"testing"

	"warble/shared/stats/unitworld"
)

// millionUsers returns the sums that SQL computes of a million users. The cost of a readout does not grow with the number of users.
func millionUsers() (arms [2]Moments) {
	random := seeded(30)
	for i := range 1_000_000 {
		arms[i%2].Add(float64(random.IntN(20)))
	}
	return arms
}

func BenchmarkPrimary(b *testing.B) {
	arms := millionUsers()
	sequence := Sequence{Planned: 1_000_000, Alpha: .05}
	b.ReportAllocs()
	for b.Loop() {
		control, treatment := must(arms[0].Mean())(b), must(arms[1].Mean())(b)
		d, ratio := must(Difference(control, treatment))(b), must(LogRatio(control, treatment))(b)
		must(sequence.Interval(d))(b)
		must(sequence.P(d))(b)
		must(sequence.Interval(ratio))(b)
	}
}

func BenchmarkFixedHorizon(b *testing.B) {
	arms := millionUsers()
	control, treatment := must(arms[0].Mean())(b), must(arms[1].Mean())(b)
	b.ReportAllocs()
	for b.Loop() {
		d := must(Difference(control, treatment))(b)
		must(d.Interval(.05))(b)
		must(d.Test())(b)
	}
}

func BenchmarkCUPED(b *testing.B) {
	random := seeded(31)
	var histories [2]History
	for i := range 1_000_000 {
		x := float64(random.IntN(20))
		histories[i%2].With.Add(x+float64(random.IntN(20)), x)
	}
	b.ReportAllocs()
	for b.Loop() {
		must(CUPED(histories[0], histories[1]))(b)
	}
}

func BenchmarkFisherExact(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		must(FisherExact(Proportion{100_300, 500_000}, Proportion{99_700, 500_000}))(b)
	}
}

// BenchmarkSampleRatio adds a million units in 14 daily batches.
func BenchmarkSampleRatio(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s := must(NewSampleRatio([]float64{1, 1}, 1_000_000))(b)
		for range 14 {
			if err := s.Add(35_700, 35_700); err != nil {
				b.Fatal(err)
			}
		}
		s.P()
	}
}

// BenchmarkPermute measures the largest test with all arrangements, and one with drawn arrangements of 24 units against 24.
func BenchmarkPermute(b *testing.B) {
	random := seeded(33)
	var values []float64
	for range 24 {
		values = append(values, random.ExpFloat64())
	}
	for name, n := range map[string]int{"exact": 10, "drawn": 24} {
		units := singleUnits(values[:n], slices.Clone(values[:n]))
		units[0].Sum++
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(Permute(units, .05, 1))(b)
			}
		})
	}
}

// BenchmarkPermuteLift measures the test of a thousand communities with drawn arrangements, and its inversion.
func BenchmarkPermuteLift(b *testing.B) {
	units := drawCommunities(unitworld.Communities{Units: 1000, Sizes: unitworld.Pareto, ICC: .3}, seeded(34))
	b.ReportAllocs()
	for b.Loop() {
		must(PermuteLift(units, .05, 1))(b)
	}
}

// BenchmarkEqualShares adds a million units.
func BenchmarkEqualShares(b *testing.B) {
	random := seeded(35)
	b.ReportAllocs()
	for b.Loop() {
		s := must(NewEqualShares(1, 1))(b)
		for i := range 1_000_000 {
			s.Add(i%2 == 1, random.IntN(10) == 0)
		}
		s.P()
	}
}
