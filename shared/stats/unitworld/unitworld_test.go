package unitworld

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestTheSameSeedDrawsTheSameUnits(t *testing.T) {
	t.Parallel()
	communities, users := Communities{Units: 50, Sizes: Pareto, ICC: .3}, Users{Users: 50, Values: Sigma2, Drifts: true}
	if diff := cmp.Diff(communities.Draw(seeded(1)), communities.Draw(seeded(1))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(users.Draw(seeded(1)), users.Draw(seeded(1))); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(users.Draw(seeded(1)), users.Draw(seeded(2))) {
		t.Error("two seeds draw the same users")
	}
}

// The test draws 20 000 communities of equal size. It compares the means by step and arm, and the variance of communities' means:
// with an intraclass correlation of .05, this is (.05 + .95/50) times the variance of a member.
func TestCommunitiesAreAsDescribed(t *testing.T) {
	t.Parallel()
	world := Communities{Units: 20_000, ICC: .05, Gain: .5}
	var n, sum, squares [3][2]float64
	for _, u := range world.Draw(seeded(3)) {
		arm := 0
		if u.Treatment {
			arm = 1
		}
		rate := u.Sum / u.Size
		n[u.Stratum][arm]++
		sum[u.Stratum][arm] += rate
		squares[u.Stratum][arm] += rate * rate
	}
	for step, level := range Levels {
		for arm, factor := range []float64{1, 1.5} {
			got := sum[step][arm] / n[step][arm]
			if want := mean * level * factor; math.Abs(got/want-1) > .05 {
				t.Errorf("step %d, arm %d: mean %v, want %v", step, arm, got, want)
			}
			if share := n[step][arm] / 20_000; math.Abs(share-Shares[step]/2) > .02 {
				t.Errorf("step %d, arm %d: share %v of the communities, want %v", step, arm, share, Shares[step]/2)
			}
		}
	}
	got := squares[0][0]/n[0][0] - math.Pow(sum[0][0]/n[0][0], 2)
	if want := mean * mean * (.05 + .95/50); math.Abs(got/want-1) > .2 {
		t.Errorf("variance of communities' means %v, want %v", got, want)
	}
}

func TestSizesAreAsDescribed(t *testing.T) {
	t.Parallel()
	for sizes, want := range map[Sizes]float64{Equal: 50, Lognormal: 50, Pareto: 55} {
		var sum float64
		random := seeded(4)
		for range 200_000 {
			sum += sizes.draw(random)
		}
		if got := sum / 200_000; math.Abs(got/want-1) > .4 { // the mean of a Pareto distribution converges slowly
			t.Errorf("sizes %d: mean %v, want %v", sizes, got, want)
		}
	}
}

// If all communities were treated, the total would be the same as without treatment.
func TestGainsAndLossesCancel(t *testing.T) {
	t.Parallel()
	for _, sizes := range []Sizes{Equal, Pareto} {
		units, rates := make([]Unit, 100), make([]float64, 100)
		random := seeded(5)
		var before, after float64
		for i := range units {
			units[i], rates[i] = Unit{Treatment: true, Size: sizes.draw(random)}, random.ExpFloat64()
			before += units[i].Size * rates[i]
		}
		Communities{Gain: .5, Cancels: true}.treat(random, units, rates)
		for i, u := range units {
			after += u.Size * rates[i]
		}
		if math.Abs(after/before-1) > 1e-9 {
			t.Errorf("sizes %d: the total changes from %v to %v", sizes, before, after)
		}
	}
}

// The test compares the means by arm, the drift, and the past.
func TestUsersAreAsDescribed(t *testing.T) {
	t.Parallel()
	const n = 200_000
	for values, within := range map[Values]float64{Normal: .02, Sigma2: .15, Pareto15: .15, ZeroInflated: .1} {
		var sum, count [2]float64
		for _, u := range (Users{Users: n, Values: values, Gain: .2}).Draw(seeded(6)) {
			arm := 0
			if u.Treatment {
				arm = 1
			}
			sum[arm], count[arm] = sum[arm]+u.Value, count[arm]+1
		}
		for arm, factor := range []float64{1, 1.2} {
			if got, want := sum[arm]/count[arm], values.Mean()*factor; math.Abs(got/want-1) > within {
				t.Errorf("values %d, arm %d: mean %v, want %v", values, arm, got, want)
			}
		}
	}
	users := Users{Users: n, Drifts: true}.Draw(seeded(7))
	if first, last := users[0].Level, users[n-1].Level; math.Abs(last/first-3) > .01 {
		t.Errorf("the level grows from %v to %v, want threefold", first, last)
	}
	var known, x, y, xx, yy, xy float64
	for _, u := range (Users{Users: n, Past: true}).Draw(seeded(8)) {
		if u.Known {
			known, x, y, xx, yy, xy = known+1, x+u.Prior, y+u.Value, xx+u.Prior*u.Prior, yy+u.Value*u.Value, xy+u.Prior*u.Value
		}
	}
	got := (xy - x*y/known) / math.Sqrt((xx-x*x/known)*(yy-y*y/known))
	if math.Abs(got-correlation) > .01 || math.Abs(known/n-.5) > .01 {
		t.Errorf("%v users have a past, which correlates by %v: want half, and %v", known, got, correlation)
	}
}
