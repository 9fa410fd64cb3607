package stats

import (
	"encoding/binary"
	"math"
	"reflect"
	"testing"
)

// For any figures, every function returns an error or a result without NaN, and does not panic.
func FuzzNeverNaN(f *testing.F) {
	for _, seed := range [][]float64{
		{0, 0, 0, 0, 0, 0, 0, 0}, {100, 10, 5, 100, 12, 7, .05, .8}, {2, 1e300, math.MaxFloat64, 2, -1e300, 1e-300, 1e-300, 1},
		{math.NaN(), math.Inf(1), math.Inf(-1), -1, math.SmallestNonzeroFloat64, 1e18, .5, 2}, {3, 1, 1, 3, 2, 2, .999999, 1e-17},
		{1e6, 5e5, 5e5, 1e6, 5.1e5, 5.1e5, .05, 20},
	} {
		var data []byte
		for _, v := range seed {
			data = binary.LittleEndian.AppendUint64(data, math.Float64bits(v))
		}
		f.Add(data, uint64(7), int64(3), int64(9))
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, small, large int64) {
		var v [8]float64
		for i := range min(len(v), len(data)/8) {
			v[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
		n := [2]int64{small, large}
		a, errA := Moments{n[0], v[0], v[1]}.Mean()
		b, errB := Moments{n[1], v[3], v[4]}.Mean()
		noNaN(t, "Moments", a, errA)
		noNaN(t, "Moments", b, errB)
		ratio, err := Pairs{n[0], v[0], v[1], v[2], v[3], v[4]}.Ratio()
		noNaN(t, "Ratio", ratio, err)
		for _, e := range []Estimate{a, b, ratio, {v[0], v[1], v[2], n[0]}} {
			for _, effect := range []func(Estimate, Estimate) (Estimate, error){Difference, Lift, LogRatio} {
				got, err := effect(e, b)
				noNaN(t, "effect", got, err)
				checkJudged(t, got, v[6], n[1])
			}
			checkJudged(t, e, v[6], n[1])
		}
		p, q := Proportion{n[0], n[1]}, Proportion{int64(math.Abs(v[0])) % 1e6, 1e6}
		z, err := TwoProportions(p, q)
		noNaN(t, "TwoProportions", z, err)
		share, err := p.Mean()
		noNaN(t, "Proportion", share, err)
		newcombe, err := Newcombe(p, q, v[6])
		noNaN(t, "Newcombe", newcombe, err)
		if n[1] < 1e9 { // its time grows with the root of the counts
			fisher, err := FisherExact(p, q)
			noNaN(t, "FisherExact", fisher, err)
		}
		chi2, err := ChiSquare(n[:], v[:2])
		noNaN(t, "ChiSquare", chi2, err)
		if s, err := NewSampleRatio(v[:2], small); err == nil {
			noNaN(t, "SampleRatio.Add", nil, s.Add(n[:]...))
			noNaN(t, "SampleRatio", s.P(), nil)
		}
		bound, err := NormalMixture{v[0], v[6]}.Bound(v[1])
		noNaN(t, "NormalMixture", bound, err)
		holm, err := Holm(v[:])
		noNaN(t, "Holm", holm, err)
		cuped, err := CUPED(History{Pairs{n[0], v[0], v[1], v[2], v[3], v[4]}, Moments{n[1], v[5], v[6]}}, History{With: Pairs{n[1], v[2], v[3], v[4], v[5], v[6]}})
		noNaN(t, "CUPED", cuped, err)
		spread, err := Shape{Moments{n[0], v[0], v[1]}, v[2], n[1]}.Spread()
		noNaN(t, "Spread", spread, err)
		clusters := []Cluster{{v[0], v[1]}, {v[2], v[3]}, {v[4], v[5]}, {v[6], v[7]}, {1, 2}}
		for _, effect := range []func(a, b []Cluster) (Estimate, error){JackknifeDifference, JackknifeLogRatio} {
			jackknifed, err := effect(clusters, clusters[1:])
			noNaN(t, "Jackknife", jackknifed, err)
		}
		noNaN(t, "EffectiveNumber", EffectiveNumber(v[:]), nil)
		noNaN(t, "SmallestP", SmallestP([][2]int{{int(small), int(large)}, {3, 3}}), nil)
		units := make([]Unit, 6)
		for i := range units {
			units[i] = Unit{Stratum: i % int(1+seed%3), Treatment: seed>>i&1 == 1, Sum: v[i], Size: math.Abs(v[7-i])}
		}
		permutation, err := Permute(units, v[6], seed)
		noNaN(t, "Permute", permutation, err)
		lift, err := PermuteLift(units, v[6], seed)
		noNaN(t, "PermuteLift", lift, err)
		if shares, err := NewEqualShares(int(seed%5), int(small%5)); err == nil {
			for i := range 20 {
				shares.Add(seed>>i&1 == 1, large>>i&1 == 1)
			}
			noNaN(t, "EqualShares", shares.P(), nil)
		}
		design := Design{v[6], v[7], v[0], v[1], v[2], seed%2 == 0}
		size, err := design.Proportions(v[3], v[4])
		noNaN(t, "Proportions", size, err)
		size, err = design.Means(v[3], v[4])
		noNaN(t, "Means", size, err)
		effect, err := design.DetectableEffect(v[3], n[0])
		noNaN(t, "DetectableEffect", effect, err)
		spans := []Histogram{{v[:2], []int64{n[0], n[1], 5}}, {v[:2], []int64{n[1], 3, n[0]}}}
		quantiles, err := CompareQuantiles(v[6], spans, spans, v[7])
		noNaN(t, "CompareQuantiles", quantiles, err)
	})
}

// checkJudged calls all functions that judge an effect.
func checkJudged(t *testing.T, e Estimate, alpha float64, planned int64) {
	interval, err := e.Interval(alpha)
	noNaN(t, "Estimate.Interval", interval, err)
	noNaN(t, "Interval.Expm1", interval.Expm1(), err)
	test, err := e.Test()
	noNaN(t, "Estimate.Test", test, err)
	s := Sequence{planned, alpha}
	interval, err = s.Interval(e)
	noNaN(t, "Sequence.Interval", interval, err)
	for _, side := range []func(Estimate) (float64, error){s.Lower, s.Upper, s.P} {
		figure, err := side(e)
		noNaN(t, "Sequence", figure, err)
	}
}

// noNaN fails the test if the result contains NaN, or if there is both an error and a result.
func noNaN(t *testing.T, what string, result any, err error) {
	t.Helper()
	var visit func(reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Float64:
			if math.IsNaN(v.Float()) {
				t.Errorf("%s: NaN in %+v, error %v", what, result, err)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				visit(v.Field(i))
			}
		case reflect.Slice:
			for i := range v.Len() {
				visit(v.Index(i))
			}
		}
	}
	if result == nil {
		return
	}
	visit(reflect.ValueOf(result))
	if v := reflect.ValueOf(result); err != nil && !v.IsZero() {
		t.Errorf("%s: result %+v together with the error %v", what, result, err)
	}
}
