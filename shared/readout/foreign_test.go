package readout_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// The database knows nothing else of visitors, and no user of Warble is a visitor.
func TestVisitorsAreKnownByTheirExposuresAlone(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) { s.Identity.Kind = experiment.ByVisitor })
	w.People(50)
	w.Traffic(100, 1, 1)
	w.Exec(`
		insert into guest_exposures (experiment, unit, assigned, served, revision, generation, first_at)
		select 'likes', unit, arm, arm, 'shop-' || arm, 1, $1::timestamptz + interval '1 minute' * n
		from (
			select n, unit, case when slot_of('pepper', unit) < 5000 then 'control' else 'treatment' end as arm
			from (select n, 'visitor-' || n as unit from generate_series(1, 1000) n) v
		) v`, begin)
	r := w.Read(begin.Add(14 * day))
	if n := r.Units.Users; n.Control+n.Treatment != 1000 || r.Units.Entered != n || r.Units.Reachable != 1000 || r.Units.Completed != n {
		t.Errorf("%+v", r.Units)
	}
	checks := func(r readout.Report) (all []string) {
		for _, c := range r.Health {
			all = append(all, c.Name+": "+string(c.State))
		}
		return all
	}
	want := "traffic: ok, sample ratio: ok, assignment: ok, served as assigned: ok, one arm each: ok"
	if got := strings.Join(checks(r), ", "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	words := r.Sentence
	for _, c := range r.Health {
		words += "\n" + c.Detail
	}
	if !strings.Contains(words, "1,000 visitors") || regexp.MustCompile(`\busers?\b`).MatchString(words) {
		t.Errorf("the units are visitors: %s", words)
	}
	if !strings.Contains(r.Health[1].Detail, "the exposures of its last 10 s are lost") {
		t.Errorf("the report does not say what an edge that dies takes with it: %s", r.Health[1].Detail)
	}
	w.Exec(`update guest_exposures set assigned = 'treatment' where unit = (select min(unit) from guest_exposures where assigned = 'control')`)
	if got := strings.Join(checks(w.Read(begin.Add(14*day))), ", "); !strings.Contains(got, "assignment: red") {
		t.Errorf("a visitor in the wrong arm: %s", got)
	}
	if _, err := readout.Plan(t.Context(), w.Open(t, pgtest.Ops), w.Spec, nil, begin); err == nil || !strings.Contains(err.Error(), "tweets_per_user is what users of Warble do") {
		t.Errorf("the plan says %v", err)
	}
}

// Visitors in the treatment order twice as often. Events contain the visitors' ids.
func TestVisitorsAreJudgedByTheirEvents(t *testing.T) {
	t.Parallel()
	orders := ownMetric("orders", experiment.KindSum, "")
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Identity.Kind = experiment.ByVisitor
		s.Metrics.Primary.Name = orders.Name
	})
	text, err := json.Marshal([]experiment.Metric{orders})
	if err != nil {
		t.Fatal(err)
	}
	w.Exec(`update experiments set metrics = $1`, string(text))
	w.Traffic(100, 1, 1)
	w.Exec(`
		insert into guest_exposures (experiment, unit, assigned, served, revision, generation, first_at)
		select 'likes', unit, arm, arm, 'shop-' || arm, 1, $1::timestamptz + interval '1 minute' * n
		from (
			select n, unit, case when slot_of('pepper', unit) < 5000 then 'control' else 'treatment' end as arm
			from (select n, 'visitor-' || n as unit from generate_series(1, 1000) n) v
		) v`, begin)
	db := w.Open(t, pgtest.Ops)
	for n := 1; n <= 1000; n++ {
		unit := fmt.Sprint("visitor-", n)
		times := n % 3
		if experiment.Slot("pepper", unit) >= 5000 {
			times *= 2
		}
		for i := range times {
			at := begin.Add(time.Duration(n)*time.Minute + time.Duration(i+1)*time.Hour)
			said := []store.MetricEvent{{Metric: orders, Occurrence: experiment.Occurrence{Unit: unit, Value: 1}}}
			if err := db.RecordEvent(t.Context(), "/shop", fmt.Sprint(unit, i), at, said); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Exec(`update metric_events set arrived_id = at_id`)
	r := w.Read(begin.Add(14*day + time.Hour))
	if r.Verdict != readout.Outcome(experiment.Win) || r.Primary == nil || r.Primary.Lift == nil {
		t.Errorf("%s: %s\n%+v", r.Verdict, r.Sentence, r.Health)
	}
}

// visitorsFixture returns an experiment with visitors.
func visitorsFixture(t *testing.T) readouttest.Fixture {
	t.Helper()
	return readouttest.New(t, func(s *experiment.Spec) { s.Identity.Kind = experiment.ByVisitor })
}

// Nothing is known of the visitors. The three figures that sample size calculators ask for are enough.
func TestAPlanForVisitorsUsesWhatPeopleKnow(t *testing.T) {
	t.Parallel()
	w, orders, buyers := visitorsFixture(t), ownMetric("orders", experiment.KindSum, ""), ownMetric("buyers", experiment.KindProportion, "")
	if p := visit(t, w, orders); p.Units != 0 || p.Err() == nil || p.Err().Error() != "ramp: it is not known how many visitors come: no earlier experiment at like had them: set plan.unitsPerDay" {
		t.Errorf("nothing is known: %v", p.Err())
	}
	w.Spec.Plan.UnitsPerDay = 200
	if p := visit(t, w, orders); p.Completed != 700 || p.Err() == nil || !strings.Contains(p.Err().Error(), "set plan.mean and, unless the metric is a proportion, plan.cv") {
		t.Errorf("who comes is known, and not what they do: %d, %v", p.Completed, p.Err())
	}
	w.Spec.Plan.Mean, w.Spec.Plan.CV = 4, .5
	p := visit(t, w, orders)
	// As in TestAPlanOfUsersMatchesTheFormulas, with the same figures.
	if p.Needed < 226 || p.Needed > 234 || p.Units != 2*p.Needed || p.Err() != nil || p.Method != readout.Sequence || p.Source != "200 units a day, the mean and its variation, from spec.plan" {
		t.Errorf("%+v, %v", p, p.Err())
	}
	w.Spec.Plan = experiment.Known{UnitsPerDay: 3000, Mean: .1}
	if p := visit(t, w, buyers); p.CV != 3 || p.Needed < 3000 || p.Needed > 10000 || p.Err() != nil {
		t.Errorf("a proportion: %+v, %v", p, p.Err())
	}
	w.Spec.Plan = experiment.Known{UnitsPerDay: 4, Mean: .5} // so few that a permutation test judges them
	if p := visit(t, w, buyers); p.Method != readout.Permutation || p.Simulated == 0 || p.Completed != 14 {
		t.Errorf("few: %+v, %v", p, p.Err())
	}
}

// docs/guests.md starts its experiment with these figures, and without --anyway.
func TestThePlanOfTheGuestsPageCanStart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../e2e/guest/experiment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Spec experiment.Spec }
	if err := yaml.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	e.Spec.Default()
	page, err := os.ReadFile("../../docs/guests.md")
	if err != nil {
		t.Fatal(err)
	}
	if flags := "kn experiment start -f e2e/guest/experiment.yaml --units-per-day 50000 --mean 0.3 --cv 1.8\n"; !strings.Contains(string(page), flags) {
		t.Errorf("the page has no %s", flags)
	}
	e.Spec.Plan = experiment.Known{UnitsPerDay: 50000, Mean: .3, CV: 1.8}
	p, err := readout.Plan(t.Context(), pgtest.New(t).Open(t, pgtest.Ops), e.Spec, []experiment.Metric{ownMetric("orders", experiment.KindSum, "")}, begin)
	if err != nil || p.Err() != nil || p.Units == 0 {
		t.Errorf("%+v, %v, %v", p, err, p.Err())
	}
}

// order lets each visitor order so many times, from a time on.
func order(t *testing.T, w readouttest.Fixture, visitors int, when func(n int) (from time.Time, times int)) {
	t.Helper()
	m := ownMetric("orders", experiment.KindSum, "")
	said := []store.MetricEvent{{Metric: m, Occurrence: experiment.Occurrence{Unit: "somebody", Value: 1}}}
	if err := w.Open(t, pgtest.Ops).RecordEvent(t.Context(), "/shop", "an order of long ago, for its series", begin.Add(-60*day), said); err != nil {
		t.Fatal(err)
	}
	var units []string
	var ats []time.Time
	for n := range visitors {
		from, times := when(n)
		for i := range times {
			units, ats = append(units, fmt.Sprint("visitor-", n)), append(ats, from.Add(time.Duration(i)*time.Second))
		}
	}
	w.Exec(`
		insert into metric_events (series, event, unit, at_id, arrived_id, value)
		select (select min(series) from metric_events), gen_random_uuid(), unit, id_at(at), id_at(at), 1
		from unnest($1::text[], $2::timestamptz[]) as e (unit, at)`, units, ats)
}

// visit plans an experiment with visitors, 30 days after begin.
func visit(t *testing.T, w readouttest.Fixture, m experiment.Metric) readout.Planned {
	t.Helper()
	w.Spec.Metrics.Primary = experiment.Primary{Name: m.Name, MinimumEffect: .2}
	p, err := readout.Plan(t.Context(), w.Open(t, pgtest.Ops), w.Spec, []experiment.Metric{m}, begin.Add(30*day))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Of 200 visitors a day, 40 order, once or three times.
func TestAPlanForVisitorsUsesTheHistoryOfTheirEvents(t *testing.T) {
	t.Parallel()
	w, orders := visitorsFixture(t), ownMetric("orders", experiment.KindSum, "")
	order(t, w, 560, func(n int) (time.Time, int) {
		return begin.Add(9*day - 15*time.Minute + time.Duration(n)*14*day/560), 1 + n%2*2
	})
	if p := visit(t, w, orders); p.Err() == nil || !strings.Contains(p.Err().Error(), "how many visitors come, of whom 40 visitors a day had events shop.order.v1") {
		t.Errorf("%v", p.Err())
	}
	w.Spec.Plan.UnitsPerDay = 200
	p := visit(t, w, orders)
	// 560 of 2800: (280 + 3*280)/2800 = .4 each; the squares' mean is (280 + 9*280)/2800 = 1, so the variance is .84.
	if p.Users != 2800 || math.Abs(p.Mean-.4) > .001 || math.Abs(p.CV-math.Sqrt(.84)/.4) > .01 || p.Units != 0 && p.Err() != nil {
		t.Errorf("%+v, %v", p, p.Err())
	}
}

// An earlier experiment exposed 1000 visitors in its week. Those in control ordered.
func TestAPlanForVisitorsUsesAnEarlierExperiment(t *testing.T) {
	t.Parallel()
	w, orders := visitorsFixture(t), ownMetric("orders", experiment.KindSum, "")
	w.Exec(`
		insert into guest_exposures (experiment, unit, assigned, served, revision, generation, first_at)
		select 'likes', 'visitor-' || n, arm, arm, 'shop-' || arm, 1, $1::timestamptz + interval '7 days' / 1000 * n
		from (select n, case n % 2 when 0 then 'control' else 'treatment' end as arm from generate_series(0, 999) n) v`, begin)
	w.Transition("end", "Concluded", 0, 0, begin.Add(7*day))
	order(t, w, 1000, func(n int) (time.Time, int) {
		return begin.Add(7*day/1000*time.Duration(n) + time.Hour), 1 + n/2%7 + n%2*100 // control as in TestAPlanOfUsersMatchesTheFormulas; the treatment must be ignored
	})
	p := visit(t, w, orders)
	if p.Users != 500 || math.Abs(p.Mean-4) > .05 || math.Abs(p.CV-.5) > .01 || p.Completed < 490 || p.Completed > 510 || p.Err() != nil || p.Units != 2*p.Needed {
		t.Errorf("%+v, %v", p, p.Err())
	}
	if p.Source != "visitors of the earlier experiment likes, and what its control did" {
		t.Error(p.Source)
	}
	w.Spec.Identity.Cookie = "another" // its visitors are other ones
	if visit(t, w, orders).Users != 0 {
		t.Error("the visitors of another cookie are taken for these")
	}
}
