package main

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ordinary = model{
	seed: 1, people: 500, rate: 300, cv: .5, actions: 4, think: 2 * time.Second, mix: [3]float64{.6, .3, .1},
	like: .2, retweet: .03, feedback: .02, effect: .2,
}

// watched has the numbers of intents and of the actions that follow from them, in a simulated time.
type watched struct {
	intents, acts [kinds]float64
	perPerson     []float64 // intents except likes and retweets
	firstSecond   float64   // intents except likes and retweets
}

func watch(p *population, length time.Duration, treated func(person int) bool) watched {
	w := watched{perPerson: make([]float64, p.people)}
	plan := newPlan(p)
	for i := plan.next(); i.at < length; i = plan.next() {
		w.intents[i.kind]++
		if i.kind != like && i.kind != retweet {
			w.perPerson[i.person]++
			if i.at < time.Second {
				w.firstSecond++
			}
		}
		for _, k := range p.acts(i, treated(i.person)) {
			w.acts[k]++
		}
	}
	return w
}

func nobody(int) bool    { return false }
func everybody(int) bool { return true }

// within fails the test if got is more than four standard errors from want. That happens by chance for one in 16 000 seeds, and the
// seeds are fixed.
func within(t *testing.T, what string, got, want, standardError float64) {
	t.Helper()
	if math.Abs(got-want) > 4*standardError {
		t.Errorf("%s: %g, want %g within %g", what, got, want, 4*standardError)
	}
}

func TestPeopleDoWhatTheModelSays(t *testing.T) {
	t.Parallel()
	const seconds = 600
	m := ordinary
	w := watch(newPopulation(m), seconds*time.Second, nobody)
	actions := w.intents[home] + w.intents[timeline] + w.intents[post]
	for k, share := range m.mix {
		within(t, kind(k).String(), w.intents[k]/actions, share, math.Sqrt(share*(1-share)/actions))
	}
	reads := w.intents[home] + w.intents[timeline]
	within(t, "likes after reading", w.intents[like]/reads, m.like, math.Sqrt(m.like*(1-m.like)/reads))
	within(t, "retweets after reading", w.intents[retweet]/reads, m.retweet, math.Sqrt(m.retweet*(1-m.retweet)/reads))
	// The number of sessions is Poisson. The lengths are geometric, with mean a and variance a² - a. So the variance of the sum of
	// lengths is 2a² - a for each session.
	sessions := seconds * m.rate / (m.actions + m.feedback)
	within(t, "requests", actions+w.intents[feedback], seconds*m.rate, math.Sqrt(sessions*(2*m.actions*m.actions-m.actions+m.feedback)))
	within(t, "feedback", w.intents[feedback], sessions*m.feedback, math.Sqrt(sessions*m.feedback))
}

func TestTheFirstSecondIsAsBusyAsAnyOther(t *testing.T) {
	t.Parallel()
	sum, runs := 0., 40
	for seed := range runs {
		m := ordinary
		m.seed = uint64(seed)
		sum += watch(newPopulation(m), time.Second, nobody).firstSecond
	}
	within(t, "requests in the first second", sum/float64(runs), ordinary.rate, math.Sqrt(ordinary.rate*ordinary.actions/float64(runs)))
}

func TestPeopleDifferByTheCoefficientOfVariation(t *testing.T) {
	t.Parallel()
	for _, cv := range []float64{0, .5, 1} {
		m := ordinary
		m.cv, m.people = cv, 20_000
		var sum, squares float64
		for _, w := range newPopulation(m).weights {
			sum += w
			squares += (w - 1) * (w - 1)
		}
		if mean := sum / float64(m.people); math.Abs(mean-1) > 1e-9 {
			t.Errorf("cv %g: mean weight %g, want 1", cv, mean)
		}
		if got := math.Sqrt(squares / float64(m.people)); math.Abs(got-cv) > .05*cv {
			t.Errorf("cv %g: %g", cv, got)
		}
	}
	// The numbers of requests differ accordingly. If all people have the same rate, the variance is only Poisson's, which equals
	// the mean.
	m := ordinary
	m.cv, m.actions, m.feedback = 0, 1, 0
	w := watch(newPopulation(m), 100*time.Second, nobody)
	want := m.rate * 100 / float64(m.people)
	var squares float64
	for _, n := range w.perPerson {
		squares += (n - want) * (n - want)
	}
	within(t, "variance over mean", squares/float64(m.people)/want, 1, math.Sqrt(2/float64(m.people)))
}

func TestAnEffectChangesTheNumberOfPosts(t *testing.T) {
	t.Parallel()
	for _, effect := range []float64{0, .2, 1, 3, -.3, -1} {
		m := ordinary
		m.effect = effect
		const length = 300 * time.Second
		control, treatment := watch(newPopulation(m), length, nobody), watch(newPopulation(m), length, everybody)
		// The intents are the same, with and without treatment.
		if diff := cmp.Diff(control.intents, treatment.intents); diff != "" {
			t.Errorf("effect %g:\n%s", effect, diff)
		}
		if diff := cmp.Diff(control.intents, control.acts); diff != "" {
			t.Errorf("effect %g: without treatment, what they mean to do and what they do:\n%s", effect, diff)
		}
		lift := treatment.acts[post]/control.acts[post] - 1
		within(t, "lift", lift, effect, math.Sqrt((math.Abs(effect)+effect*effect)/control.acts[post]))
		treatment.acts[post] = control.acts[post]
		if diff := cmp.Diff(control.acts, treatment.acts); diff != "" {
			t.Errorf("effect %g on other than posts:\n%s", effect, diff)
		}
	}
}

func TestAnEffectOnSomePeopleDoesNotChangeOthers(t *testing.T) {
	t.Parallel()
	p := newPopulation(ordinary)
	odd := func(person int) bool { return person%2 == 1 }
	posts := func(treated func(int) bool) (of [2]float64) {
		plan := newPlan(p)
		for i := plan.next(); i.at < 300*time.Second; i = plan.next() {
			for _, k := range p.acts(i, treated(i.person)) {
				if k == post {
					of[i.person%2]++
				}
			}
		}
		return of
	}
	before, after := posts(nobody), posts(odd)
	if before[0] != after[0] {
		t.Errorf("others posted %g, and %g beside the treated", before[0], after[0])
	}
	within(t, "lift", after[1]/before[1]-1, ordinary.effect, math.Sqrt(ordinary.effect/before[1]))
}

// Only the seed and the person decide the intents. The plan is in the order of time.
func TestTheSeedDecidesWhatPeopleDo(t *testing.T) {
	t.Parallel()
	visits := func(seed uint64, person int) (all [][]intent) {
		m := ordinary
		m.seed = seed
		p := newPopulation(m)
		for n := range 20 {
			_, intents := p.visit(person, n)
			all = append(all, intents)
		}
		return all
	}
	exact := cmp.AllowUnexported(intent{})
	if diff := cmp.Diff(visits(1, 7), visits(1, 7), exact); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(visits(1, 7), visits(2, 7), exact) || cmp.Equal(visits(1, 7), visits(1, 8), exact, cmpopts.IgnoreFields(intent{}, "person")) {
		t.Error("two seeds, or two people, are alike")
	}
	var order []intent
	plan := newPlan(newPopulation(ordinary))
	for range 5000 {
		order = append(order, plan.next())
	}
	for i := 1; i < len(order); i++ {
		if order[i].at < order[i-1].at {
			t.Fatalf("intent %d at %s comes after %s", i, order[i].at, order[i-1].at)
		}
	}
}

func TestScoresHaveTheirProbabilities(t *testing.T) {
	t.Parallel()
	const n = 100_000
	var of [len(scores)]float64
	for i := range n {
		of[score(float64(i)/n)-1]++
	}
	for i := range of {
		if math.Abs(of[i]/n-scores[i]) > 2./n {
			t.Errorf("score %d: %g of %d, want %g", i+1, of[i], n, scores[i])
		}
	}
	if score(math.Nextafter(1, 0)) != len(scores) {
		t.Error("the highest draw is not the highest score")
	}
}
