package readout_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// TestVisitorsAreCountedByTheirExposuresAlone: the database knows nothing else of them, and no user of Warble's is one.
func TestVisitorsAreCountedByTheirExposuresAlone(t *testing.T) {
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
	if !strings.Contains(r.Health[1].Detail, "its last 10 s of exposures") {
		t.Errorf("the report does not say what an edge that dies takes with it: %s", r.Health[1].Detail)
	}
	w.Exec(`update guest_exposures set assigned = 'treatment' where unit = (select min(unit) from guest_exposures where assigned = 'control')`)
	if got := strings.Join(checks(w.Read(begin.Add(14*day))), ", "); !strings.Contains(got, "assignment: red") {
		t.Errorf("a visitor in the wrong arm: %s", got)
	}
	if _, err := readout.Plan(t.Context(), w.Open(t, pgtest.Ops), w.Spec, nil, begin); err == nil || !strings.Contains(err.Error(), "tweets_per_user is what users of Warble do") {
		t.Errorf("the plan says %v", err)
	}
	w.Spec.Metrics.Primary.Name = "orders"
	p, err := readout.Plan(t.Context(), w.Open(t, pgtest.Ops), w.Spec, []experiment.Metric{ownMetric("orders", experiment.KindSum, "")}, begin)
	if err == nil {
		err = p.Err()
	}
	if err == nil || !strings.Contains(err.Error(), "nothing is known of people by identity visitor") {
		t.Errorf("the plan says %v", err)
	}
}

// TestVisitorsAreJudgedByTheirEvents: who saw the treatment orders twice as often, and events name visitors by their ids.
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
	if r.Verdict != readout.Verdict(experiment.Win) || r.Primary == nil || r.Primary.Lift == nil {
		t.Errorf("%s: %s\n%+v", r.Verdict, r.Sentence, r.Health)
	}
}
