package readout_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// ownMetric returns a Metric of the shop's orders. The events' subject is the user.
func ownMetric(name, kind, value string) experiment.Metric {
	m := experiment.Metric{Name: name, EventMetric: experiment.EventMetric{
		Label: "Label of " + name, Unit: "EUR", Direction: "up", Kind: kind,
		Event: experiment.EventSource{Type: "shop.order.v1", SubjectIsUnit: true, Value: experiment.EventValue(value)},
	}}
	m.Default()
	return m
}

// ordered is an order: its time after the begin of the experiment, and how much later it arrived.
type ordered struct {
	user     int // the nth registered user, from 1
	after    time.Duration
	value    float64
	delivery time.Duration
}

// shop is a fixture in which people place orders.
type shop struct {
	readouttest.Fixture

	t       *testing.T
	db      *store.DB
	metrics []experiment.Metric
	ids     []int64 // of users, in the order of their registration
}

// newShop returns an experiment that started with these metrics. The first one is the primary metric.
func newShop(t *testing.T, people int, metrics ...experiment.Metric) shop {
	t.Helper()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Metrics.Primary.Name = metrics[0].Name
		for _, m := range metrics[1:] {
			s.Metrics.Secondary = append(s.Metrics.Secondary, m.Name)
		}
	})
	w.People(people)
	text, err := json.Marshal(metrics)
	if err != nil {
		t.Fatal(err)
	}
	w.Exec(`update experiments set metrics = $1`, string(text))
	s := shop{Fixture: w, t: t, db: w.Open(t, pgtest.Ops), metrics: metrics}
	for n := range people { // as People computes ids
		at := begin.Add(-60*day + time.Duration(n+1)*time.Millisecond)
		s.ids = append(s.ids, at.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).Milliseconds()<<22)
	}
	return s
}

// order stores orders as steer does, order n as event n. Then it sets when each of them arrived.
func (s shop) order(orders []ordered, in []int) {
	s.t.Helper()
	for _, n := range in {
		o := orders[n]
		data := fmt.Sprintf(`{"total":%v}`, o.value)
		var said []store.MetricEvent
		for _, m := range s.metrics {
			found, err := m.Read(fmt.Sprint(s.ids[o.user-1]), []byte(data))
			if err != nil {
				s.t.Fatal(err)
			}
			said = append(said, store.MetricEvent{Metric: m, Occurrence: found})
		}
		if err := s.db.RecordEvent(s.t.Context(), "urn:shop", fmt.Sprint(n), begin.Add(o.after), said); err != nil {
			s.t.Fatal(err)
		}
		s.Exec(`update metric_events set arrived_id = id_at($1) where at_id = id_at($2) and unit = $3`, begin.Add(o.after+o.delivery), begin.Add(o.after), fmt.Sprint(s.ids[o.user-1]))
	}
}

func all(n int) (in []int) {
	for i := range n {
		in = append(in, i)
	}
	return in
}

// Three people have values that can be added up by hand: two in control, one in the treatment. Each window is [1h, 7d1h).
func TestEventMetricsMatchValuesComputedByHand(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3, ownMetric("revenue", experiment.KindSum, "total"), ownMetric("buyers", experiment.KindProportion, ""), ownMetric("basket", experiment.KindMean, "total"))
	s.Exec(`insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, case when username = 'u3' then 'treatment' else 'control' end, 'none', 'r', 1, $1 from users`, begin.Add(time.Hour))
	orders := []ordered{
		{1, -13 * day, 5, 0},                                // before the entry
		{1, 59 * time.Minute, 7, 0},                         // and still before it
		{1, time.Hour, 10.1, 0},                             // the first moment
		{1, 2 * day, 20.2, 0},                               //
		{1, 7*day + time.Hour - 1e6, 30.3, 0},               // the last
		{1, 7*day + time.Hour, 100, 0},                      // after the window
		{1, -15 * day, 100, 0},                              // before the past that is read
		{3, 3 * day, 8, 4*day + time.Hour + 14*time.Minute}, // late, but the window is frozen only 15 minutes after its end
		{3, 4 * day, 0, 0},                                  //
		{3, 5 * day, 100, 2*day + time.Hour + 15*time.Minute},
		{3, 6 * day, 100, 20 * day},
	}
	s.order(orders, all(len(orders)))
	stored, err := s.db.StoredEvents(t.Context(), append(s.metrics, ownMetric("others", experiment.KindSum, "other")))
	if err != nil || len(stored) != 4 || stored[0].Events != 11 || !stored[0].Last.Equal(begin.Add(7*day+time.Hour)) || stored[3] != (store.Stored{}) {
		t.Errorf("%+v, %v", stored, err)
	}
	end := 7*day + time.Hour + 15*time.Minute
	if r := s.Read(begin.Add(end - time.Millisecond)); r.Units.Completed != (experiment.Counts{}) || r.Primary.Control.Mean != nil {
		t.Errorf("events may still come, and yet %+v have completed: %v", r.Units.Completed, r.Primary.Control)
	}
	r := s.Read(begin.Add(end + time.Millisecond))
	if r.Units.Completed != (experiment.Counts{Control: 2, Treatment: 1}) {
		t.Errorf("%+v have completed", r.Units.Completed)
	}
	type means struct {
		Control, Treatment float64
		Missing            int64
	}
	got := make(map[string]means)
	effects := append([]readout.Effect{*r.Primary}, r.Secondary...)
	for _, e := range effects {
		got[e.Metric] = means{*e.Control.Mean, *e.Treatment.Mean, e.Control.Missing}
		if e.Label != "Label of "+e.Metric || e.Unit != "EUR" || !strings.Contains(e.About, "shop.order.v1") {
			t.Errorf("%s: %q, in %q: %s", e.Metric, e.Label, e.Unit, e.About)
		}
		// That of the fifth day arrived when the window had just been frozen; that of the sixth comes after this report.
		if e.Late == nil || e.Late.Counts != (experiment.Counts{Treatment: 1}) || e.Late.Lag.String() != "15m" || !slices.Equal(e.Late.Days, []store.LateDay{{Day: "2026-10-08", Treatment: 1}}) {
			t.Errorf("%s: late %+v", e.Metric, e.Late)
		}
	}
	want := map[string]means{
		"revenue": {(10.1 + 20.2 + 30.3) / 2, 8, 0}, // 60.6 and 0 in the control
		"buyers":  {.5, 1, 0},
		"basket":  {20.2, 4, 1}, // the mean of 60.6 over three orders; a user without an order has no value
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 })); diff != "" {
		t.Error(diff)
	}
	if late := s.Read(begin.Add(30 * day)).Primary.Late; late == nil || late.Treatment != 2 || len(late.Days) != 2 || late.Days[1] != (store.LateDay{Day: "2026-10-27", Treatment: 1}) {
		t.Errorf("later: %+v", late)
	}
}

// What a unit ordered before its entry explains a part of what it orders later.
func TestEventsBeforeTheEntryAreTheUnitsPast(t *testing.T) {
	t.Parallel()
	s := newShop(t, 400, ownMetric("revenue", experiment.KindSum, "total"))
	s.Exposed()
	s.order([]ordered{{1, -80 * day, 1, 0}}, []int{0}) // creates the series of the other events
	s.Exec(`
		insert into metric_events (series, event, unit, at_id, arrived_id, value)
		select (select series from metric_events), gen_random_uuid(), user_id::text, id_at(at), id_at(at), 10 + (user_id >> 22) % 40 + case when at > first_at then (user_id >> 22) % 3 else 0 end
		from exposures, unnest(array[first_at - interval '3 days', first_at + interval '2 days']) at`)
	r := s.Read(begin.Add(20 * day))
	if r.Primary.CUPED == nil || r.Primary.CUPED.Theta < .99 || r.Primary.CUPED.Theta > 1.01 {
		t.Errorf("%+v", r.Primary.CUPED)
	}
	if r.Primary.Method != readout.Sequence {
		t.Errorf("%s: %s", r.Primary.Method, r.Sentence)
	}
	p, err := readout.Plan(t.Context(), s.db, s.Spec, s.metrics, begin)
	if err != nil || p.Label != "Label of revenue" || p.ValueUnit != "EUR" {
		t.Errorf("%+v, %v", p, err)
	}
}

// Events may arrive in any order, and more than once.
func TestTheReportDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	t.Parallel()
	s := newShop(t, 12, ownMetric("revenue", experiment.KindSum, "total"), ownMetric("basket", experiment.KindMean, "total"))
	s.Exposed()
	rng := rand.New(rand.NewPCG(1, 2))
	var orders []ordered
	for range 60 {
		orders = append(orders, ordered{1 + rng.IntN(12), time.Duration(rng.Int64N(int64(9 * day))), float64(rng.IntN(10_000)) / 100, time.Duration(rng.Int64N(int64(time.Hour)))})
	}
	in := append(all(len(orders)), all(len(orders))...)
	var want string
	for round := range 6 {
		s.Exec(`truncate metric_events`)
		s.order(orders, in)
		text, err := json.Marshal(s.Read(begin.Add(20 * day)))
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			want = string(text)
			if !strings.Contains(want, `"metric":"revenue"`) || strings.Contains(want, `"users":0,"missing":0,"mean":null`) {
				t.Fatalf("nobody has ordered: %s", want)
			}
		} else if diff := cmp.Diff(want, string(text)); diff != "" {
			t.Fatalf("in the order %v: %s", in, diff)
		}
		rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
	}
}

func TestAPlanRefusesAnUnknownMetric(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Metrics.Primary.Name, s.Metrics.Secondary = "revenue", []string{"buyer"}
	})
	own := []experiment.Metric{ownMetric("revenue", experiment.KindSum, "total"), ownMetric("buyers", experiment.KindProportion, "")}
	db := w.Open(t, pgtest.Ops)
	_, err := readout.Plan(t.Context(), db, w.Spec, own, begin)
	if err == nil || !strings.Contains(err.Error(), `metric "buyer": expected one of active_days, feedback_score, likes_per_user, returning_share, retweets_per_user, tweets_per_user, revenue, buyers`) {
		t.Errorf("%v", err)
	}
	w.Spec.Metrics.Secondary = []string{"buyers"}
	if _, err := readout.Plan(t.Context(), db, w.Spec, own, begin); err != nil {
		t.Error(err)
	}
}
