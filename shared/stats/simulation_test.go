package stats

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// The tests of this file simulate with seeds how often a method is wrong, and how often it finds an effect. Every limit allows
// for three binomial standard errors at the number of runs.

// rate counts how often something happened.
type rate struct{ happened, runs int }

func (r *rate) count(happened bool) {
	r.runs++
	if happened {
		r.happened++
	}
}

func (r rate) value() float64 { return float64(r.happened) / float64(r.runs) }

func (r rate) atMost(t *testing.T, what string, p float64) {
	t.Helper()
	t.Logf("%s: %.2f %% of %d runs", what, 100*r.value(), r.runs)
	if r.value() > p+r.allowance(p) {
		t.Errorf("%s: %.2f %% of %d runs, want at most %.2f %%", what, 100*r.value(), r.runs, 100*p)
	}
}

func (r rate) atLeast(t *testing.T, what string, p float64) {
	t.Helper()
	t.Logf("%s: %.2f %% of %d runs", what, 100*r.value(), r.runs)
	if r.value() < p-r.allowance(p) {
		t.Errorf("%s: %.2f %% of %d runs, want at least %.2f %%", what, 100*r.value(), r.runs, 100*p)
	}
}

func (r rate) closeTo(t *testing.T, what string, p float64) {
	t.Helper()
	t.Logf("%s: %.2f %% of %d runs", what, 100*r.value(), r.runs)
	if math.Abs(r.value()-p) > r.allowance(p) {
		t.Errorf("%s: %.2f %% of %d runs, want about %.2f %%", what, 100*r.value(), r.runs, 100*p)
	}
}

func (r rate) allowance(p float64) float64 { return 3 * math.Sqrt(p*(1-p)/float64(r.runs)) }

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func binomial(random *rand.Rand, n int, p float64) int64 {
	if n == 0 || p == 0 {
		return 0
	}
	return int64(distuv.Binomial{N: float64(n), P: p, Src: random}.Rand())
}

// 20 looks at an A/A experiment: 10 000 units per arm, of which 10 % convert.
func TestASequenceAllowsRepeatedLooksAndAZTestDoesNot(t *testing.T) {
	t.Parallel()
	const looks, batch, p = 20, 500, .1
	random, sequence := seeded(1), Sequence{Planned: 2 * looks * batch, Alpha: .05}
	var naive, valid, disagree rate
	for range 2000 {
		var a, b Proportion
		var naiveFound, intervalFound, pFound bool
		for range looks {
			a = Proportion{a.Successes + binomial(random, batch, p), a.N + batch}
			b = Proportion{b.Successes + binomial(random, batch, p), b.N + batch}
			naiveFound = naiveFound || must(TwoProportions(a, b))(t).P < .05
			d := must(Difference(must(a.Mean())(t), must(b.Mean())(t)))(t)
			intervalFound = intervalFound || !must(sequence.Interval(d))(t).Contains(0)
			pFound = pFound || must(sequence.P(d))(t) < sequence.Alpha
		}
		naive.count(naiveFound)
		valid.count(intervalFound)
		disagree.count(pFound != intervalFound)
	}
	naive.closeTo(t, "z test at any of 20 looks", .26)
	naive.closeTo(t, "z test at any of 20 looks", .248) // Armitage, McPherson, Rowe 1969
	// 1.5 % was measured when the method was chosen. This seed has less. A sequence that is planned for fewer units is less strict
	// early on.
	valid.closeTo(t, "confidence sequence at any of 20 looks", .015)
	disagree.atMost(t, "interval and p disagree", 0)
}

// With a look after every 50 units per arm, each one-sided sequence is wrong with a probability of at most alpha.
func TestOneSidedSequencesAllowRepeatedLooks(t *testing.T) {
	t.Parallel()
	random, sequence := seeded(2), Sequence{Planned: 4000, Alpha: .05}
	var lower, upper rate
	for range 1000 {
		var a, b Moments
		var lowerFound, upperFound bool
		for look := range 40 {
			for range 50 {
				a.Add(random.ExpFloat64())
				b.Add(random.ExpFloat64())
			}
			if look == 0 {
				continue // a sequence needs 100 units per arm
			}
			d := must(Difference(must(a.Mean())(t), must(b.Mean())(t)))(t)
			lowerFound = lowerFound || must(sequence.Lower(d))(t) > 0
			upperFound = upperFound || must(sequence.Upper(d))(t) < 0
		}
		lower.count(lowerFound)
		upper.count(upperFound)
	}
	lower.atMost(t, "lower bound above the truth", .05)
	upper.atMost(t, "upper bound below the truth", .05)
}

// An A/A experiment of 60 communities of 50 users, with an intraclass correlation of .05.
func TestUsersOfRandomisedCommunitiesAreNotIndependentUnits(t *testing.T) {
	t.Parallel()
	const communities, users, icc = 60, 50, .05
	random := seeded(3)
	within := distuv.ChiSquared{K: users - 1, Src: random}
	var byUser, byCommunity rate
	for range 2000 {
		var user [2]Moments
		var community [2]Pairs
		for k := range communities {
			mean := 1 + math.Sqrt(icc+(1-icc)/users)*random.NormFloat64()
			user[k%2] = user[k%2].Merge(Moments{users, users * mean, users*mean*mean + (1-icc)*within.Rand()})
			community[k%2].Add(users*mean, users)
		}
		naive := must(Difference(must(user[0].Mean())(t), must(user[1].Mean())(t)))(t)
		clustered := clusterDifference(t, must(community[0].Ratio())(t), must(community[1].Ratio())(t))
		if clustered.DF != communities-2 {
			t.Fatalf("%v degrees of freedom, want %d", clustered.DF, communities-2)
		}
		byUser.count(must(naive.Test())(t).P < .05)
		byCommunity.count(!must(clustered.Interval(.05))(t).Contains(0))
	}
	// If users count as units, the standard error is too small by the square root of the design effect, 1 + 49 * .05.
	inflated := 2 * distuv.UnitNormal.Survival(normalQuantile(.025)/math.Sqrt(1+(users-1)*icc))
	byUser.closeTo(t, "users as units", inflated)
	byUser.closeTo(t, "users as units", .30)
	byCommunity.closeTo(t, "communities as units", .05)
}

// There is a look after every batch, up to 20 000 units. The single prior has the weight of 1000 units.
func TestSampleRatioWithOnePriorSeldomAlarmsFalsely(t *testing.T) {
	t.Parallel()
	start := func() *SampleRatio { return must(newSampleRatio([]float64{1, 1}, 1000))(t) }
	// When the method was chosen, 0 of 2000 runs had a false alarm. Most sets of 2000 with few looks have none; the rate is not 0.
	// The method promises at most .1 % for any number of looks, and with many looks the rate is close to this.
	sampleRatioAlarms(t, seeded(4), start, 2000, 20_000, 1000, .50).atMost(t, "false alarms, a look every 1000 units", SampleRatioAlarm)
	sampleRatioAlarms(t, seeded(5), start, 500, 20_000, 100, .50).atMost(t, "false alarms, a look every 100 units", SampleRatioAlarm)
	sampleRatioAlarms(t, seeded(6), start, 500, 20_000, 100, .52).closeTo(t, "52:48 found", .95)
}

// sampleRatioAlarms simulates experiments with a look after every batch, and counts alarms. treatment is the treatment's share.
func sampleRatioAlarms(t *testing.T, random *rand.Rand, start func() *SampleRatio, runs, units, batch int, treatment float64) (r rate) {
	for range runs {
		s := start()
		for range units / batch {
			b := binomial(random, batch, treatment)
			if err := s.Add(int64(batch)-b, b); err != nil {
				t.Fatal(err)
			}
		}
		r.count(s.P() <= SampleRatioAlarm)
	}
	return r
}

// For any planned number of units, a missing arm is found within 15 units, and 70:30 within 200. No more alarms are false than
// promised (6 of 2000 are three standard errors over .1 %).
func TestSampleRatioFindsUnequalArmsAtAnyPlan(t *testing.T) {
	t.Parallel()
	for seed, planned := range []int64{0, 200, 2000, 20_000, 1_000_000} {
		start := func() *SampleRatio { return must(NewSampleRatio([]float64{1, 1}, planned))(t) }
		for _, units := range []int64{15, 60} {
			s := start()
			for range units {
				if err := s.Add(1, 0); err != nil {
					t.Fatal(err)
				}
			}
			if s.P() > SampleRatioAlarm {
				t.Errorf("planned %d: %d units to 0 have p %v", planned, units, s.P())
			}
		}
		name := strconv.FormatInt(planned, 10)
		found := sampleRatioAlarms(t, seeded(uint64(40+seed)), start, 2000, 200, 10, .7)
		found.atLeast(t, "70:30 of 200 units found, planned "+name, .92)
		found.atMost(t, "70:30 of 200 units found, planned "+name, .96)
		sampleRatioAlarms(t, seeded(uint64(50+seed)), start, 2000, 4000, 100, .5).atMost(t, "false alarms, planned "+name, SampleRatioAlarm)
	}
}

func TestSampleRatioTurnsRedAt15To0AndNotBefore(t *testing.T) {
	t.Parallel()
	s := must(NewSampleRatio([]float64{1, 1}, 1_000_000))(t)
	for n := 1; n <= 15; n++ {
		if err := s.Add(1, 0); err != nil {
			t.Fatal(err)
		}
		if red := s.P() <= SampleRatioAlarm; red != (n == 15) {
			t.Errorf("%d to 0: p %v", n, s.P())
		}
	}
}

// If communities are randomised, a chi-square test of their users gives false alarms: the larger the communities, the more. A
// test of the communities does not.
func TestSampleRatioMustCountTheRandomisedUnits(t *testing.T) {
	t.Parallel()
	random := seeded(6)
	for _, mean := range []float64{5, 50} { // users of a community, with a geometric distribution
		var byUser, byCommunity rate
		for range 2000 {
			var users, communities [2]int64
			for range 400 {
				arm := random.IntN(2)
				users[arm] += 1 + int64(math.Log(1-random.Float64())/math.Log(1-1/mean))
				communities[arm]++
			}
			byUser.count(must(ChiSquare(users[:], []float64{1, 1}))(t).P <= SampleRatioAlarm)
			byCommunity.count(must(ChiSquare(communities[:], []float64{1, 1}))(t).P <= SampleRatioAlarm)
		}
		byUser.atLeast(t, "false alarms by user", .16)
		byUser.atMost(t, "false alarms by user", .74)
		// The statistic is inflated by E(size^2)/E(size) = mean (1 + CV^2), and the variance of a geometric is mean^2 - mean.
		expected := 2 * distuv.UnitNormal.Survival(normalQuantile(SampleRatioAlarm/2)/math.Sqrt(2*mean-1))
		byUser.closeTo(t, "false alarms by user", expected)
		byCommunity.atMost(t, "false alarms by community", SampleRatioAlarm)
	}
}
