package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/cloudevents/sdk-go/v2/event"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/rollout"
)

// shopMetric returns a Metric of the shop's orders.
func shopMetric(name, kind, unit, value string) rollout.Metric {
	m := rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: experiment.EventMetric{
		Label: "Orders per person", Unit: "orders", Direction: "up", Kind: kind,
		Event: experiment.EventSource{Type: "shop.order.v1", SubjectIsUnit: unit == "", Unit: unit, Value: experiment.EventValue(value)},
	}}
	m.Spec.Default()
	return m
}

// orderEvent returns an event of the shop.
func orderEvent(id, subject, data string, at time.Time) event.Event {
	e := event.New()
	e.SetID(id)
	e.SetSource("urn:shop")
	e.SetType("shop.order.v1")
	e.SetSubject(subject)
	if !at.IsZero() {
		e.SetTime(at)
	}
	if err := e.SetData(event.ApplicationJSON, []byte(data)); err != nil {
		panic(err)
	}
	e.DataBase64 = false
	return e
}

// deliver sends an event as a Trigger does.
func (r rig) deliver(e event.Event) (status int, answer string) {
	r.Helper()
	request, err := cehttp.NewHTTPRequestFromEvent(r.Context(), r.url+"/events", e)
	if err != nil {
		r.Fatal(err)
	}
	return r.do(request)
}

func TestAnEventIsStoredOnceForEachMetricOfItsType(t *testing.T) {
	t.Parallel()
	c := &cluster{metrics: []rollout.Metric{
		shopMetric("orders", "sum", "", ""), shopMetric("buyers", "proportion", "", ""), shopMetric("basket", "mean", "customer.id", "order.total"),
	}}
	r := serve(t, c)
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var all sync.WaitGroup
	for range 8 { // a Broker delivers at least once, and from several pods
		all.Go(func() {
			if status, answer := r.deliver(orderEvent("1", "7", `{"customer":{"id":"ada"},"order":{"total":19.99}}`, at)); status != http.StatusAccepted && status != http.StatusNotFound || answer != "" && status == http.StatusAccepted {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	all.Wait()
	if status, answer := r.deliver(orderEvent("1", "7", `{"customer":{"id":"ada"},"order":{"total":99}}`, at)); status != http.StatusAccepted || answer != "" {
		t.Errorf("%d %q", status, answer)
	}
	// orders and buyers read the same values, so they share a row.
	r.exec(`do $$ begin
		assert (select array_agg(unit || ' ' || value order by unit) from metric_events) = array['7 1', 'ada 19.99'], (select array_agg(v::text) from metric_events v);
	end $$`)
	r.exec(fmt.Sprintf(`do $$ begin assert (select bool_and(at_id = id_at('%s') and arrived_id > at_id) from metric_events); end $$`, at.Format(time.RFC3339Nano)))
	if n := c.asked.Load(); n != 1 {
		t.Errorf("the cluster was asked %d times for metrics", n)
	}
}

func TestAnEventThatFitsNoMetricGoesToTheDeadLetterSink(t *testing.T) {
	t.Parallel()
	c := &cluster{metrics: []rollout.Metric{shopMetric("orders", "sum", "", ""), shopMetric("basket", "mean", "customer.id", "lines.1.total")}}
	r := serve(t, c)
	if err := r.db.KeepMetrics(t.Context(), []experiment.Metric{{Name: "orders", EventMetric: c.metrics[0].Spec}, {Name: "basket", EventMetric: c.metrics[1].Spec}}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const right = `{"customer":{"id":7},"lines":[{"total":1},{"total":2.5}]}`
	for i, tt := range []struct {
		name, subject, data string
		at                  time.Time
		want                string // what the answer names; empty for an event that fits
		stored              int    // rows
	}{
		{"all there", "7", right, now, "", 2},
		{"false and true count 0 and 1", "7", `{"customer":{"id":"x"},"lines":[0,{"total":true}]}`, now, "", 2},
		{"no time", "7", right, time.Time{}, "time: missing", 0},
		{"a time to come", "7", right, now.Add(time.Hour), "expected the past", 0},
		{"a time that is swept", "7", right, now.AddDate(0, 0, -91), "last 90 days", 0},
		{"no subject", "", right, now, "metric orders: subject: 0 bytes", 1},
		{"no member", "7", `{"lines":[0,{"total":1}]}`, now, "metric basket: data.customer.id: missing or null", 1},
		{"half a unit", "7", `{"customer":{"id":7.5},"lines":[0,{"total":1}]}`, now, "metric basket: data.customer.id: 7.5", 1},
		{"an empty unit", "7", `{"customer":{"id":""},"lines":[0,{"total":1}]}`, now, "metric basket: data.customer.id: 0 bytes", 1},
		{"a list that is short", "7", `{"customer":{"id":7},"lines":[1]}`, now, "metric basket: data.lines.1.total: missing or null", 1},
		{"text for a number", "7", `{"customer":{"id":7},"lines":[0,{"total":"2.50"}]}`, now, "metric basket: data.lines.1.total: text: expected a number", 1},
		{"a number that is too large", "7", `{"customer":{"id":7},"lines":[0,{"total":1e13}]}`, now, "metric basket: data.lines.1.total: 1e13", 1},
		{"a number that no float holds", "7", `{"customer":{"id":7},"lines":[0,{"total":1e999}]}`, now, "metric basket: data.lines.1.total: 1e999", 1},
		{"no JSON", "7", `{"customer"`, now, "metric basket: data: expected JSON", 1},
	} {
		r.exec(`truncate metric_events`)
		status, answer := r.deliver(orderEvent(fmt.Sprint(i), tt.subject, tt.data, tt.at))
		want := http.StatusUnprocessableEntity // a Broker does not repeat it
		if tt.want == "" {
			want = http.StatusAccepted
		}
		if status != want || !strings.Contains(answer, tt.want) {
			t.Errorf("%s: %d %s, want %d and %q", tt.name, status, answer, want, tt.want)
		}
		r.exec(fmt.Sprintf(`do $$ begin assert (select count(*) from metric_events) = %d, '%s'; end $$`, tt.stored, tt.name))
	}
	if status, answer := r.post("/events", nil, map[string]any{}); status != http.StatusBadRequest || !strings.Contains(answer, "expected a CloudEvent") {
		t.Errorf("no event: %d %s", status, answer)
	}
}

// A Broker repeats an event that was answered 404, because the metric may be created later.
func TestAnEventWithoutAMetricIsSentAgain(t *testing.T) {
	t.Parallel()
	c := &cluster{}
	r := serve(t, c)
	if status, answer := r.deliver(orderEvent("1", "7", `{}`, time.Now())); status != http.StatusNotFound || !strings.Contains(answer, `no Metric and no running experiment reads events of type \"shop.order.v1\"`) {
		t.Errorf("%d %s", status, answer)
	}
	if err := r.db.KeepMetrics(t.Context(), []experiment.Metric{{Name: "orders", EventMetric: shopMetric("orders", "sum", "", "").Spec}}); err != nil {
		t.Fatal(err)
	}
	if status, answer := r.deliver(orderEvent("1", "7", `{}`, time.Now())); status != http.StatusAccepted {
		t.Errorf("%d %s", status, answer)
	}
	away := serve(t, &cluster{err: errors.New("the API server is away")})
	if status, answer := away.deliver(orderEvent("1", "7", `{}`, time.Now())); status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, answer)
	}
}

// A started experiment does not change if somebody changes or deletes a Metric that it uses.
func TestAStartedExperimentKeepsItsMetrics(t *testing.T) {
	t.Parallel()
	r := serve(t, emptyCluster{})
	before, after := shopMetric("basket", "sum", "", "order.total"), shopMetric("basket", "sum", "", "order.net")
	if err := r.db.StartExperiment(t.Context(), experiment.Start{
		Name: "shop", Salt: "s", UID: "1", Namespace: "3", PlannedUnits: 10, At: time.Now(),
		Metrics: []experiment.Metric{{Name: "basket", EventMetric: before.Spec}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.db.KeepMetrics(t.Context(), []experiment.Metric{{Name: "basket", EventMetric: after.Spec}}); err != nil {
		t.Fatal(err)
	}
	values := func(want string) {
		t.Helper()
		r.exec(fmt.Sprintf(`do $$ begin
			assert (select array_agg(value::float8 order by value) from metric_events) = array[%s]::float8[], (select array_agg(value)::text from metric_events);
		end $$`, want))
	}
	if status, answer := r.deliver(orderEvent("1", "7", `{"order":{"total":12,"net":10}}`, time.Now())); status != http.StatusAccepted {
		t.Fatal(status, answer)
	}
	values("10, 12")
	if err := r.db.KeepMetrics(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if status, answer := r.deliver(orderEvent("2", "7", `{"order":{"total":6,"net":5}}`, time.Now())); status != http.StatusAccepted {
		t.Fatal(status, answer)
	}
	values("6, 10, 12")
	if err := r.db.Transition(t.Context(), "shop", experiment.Transition{ID: "concluded", Phase: experiment.Concluded, At: time.Now(), Actor: "ada", Reason: "enough"}); err != nil {
		t.Fatal(err)
	}
	if status, answer := r.deliver(orderEvent("3", "7", `{"order":{"total":6,"net":5}}`, time.Now())); status != http.StatusNotFound {
		t.Errorf("nobody reads it any more: %d %s", status, answer)
	}
}

// Many concurrent events, each sent several times, in any order, are stored once each.
func TestEventsInAnyOrderAreStoredOnce(t *testing.T) {
	t.Parallel()
	r := serve(t, emptyCluster{})
	if err := r.db.KeepMetrics(t.Context(), []experiment.Metric{{Name: "orders", EventMetric: shopMetric("orders", "sum", "", "n").Spec}}); err != nil {
		t.Fatal(err)
	}
	const events = 40
	at := time.Now().Add(-time.Hour)
	var sends []int
	for i := range events {
		sends = append(sends, i, i, i)
	}
	rand.Shuffle(len(sends), func(i, j int) { sends[i], sends[j] = sends[j], sends[i] })
	next := make(chan int)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range next {
				if status, answer := r.deliver(orderEvent(fmt.Sprint(i), fmt.Sprint(i%3), fmt.Sprintf(`{"n":%d.1}`, i), at.Add(time.Duration(i)*time.Second))); status != http.StatusAccepted {
					t.Errorf("%d: %d %s", i, status, answer)
				}
			}
		})
	}
	for _, i := range sends {
		next <- i
	}
	close(next)
	all.Wait()
	r.exec(`do $$ begin assert (select row(count(*), count(distinct unit), sum(value)) from metric_events) = row(40::bigint, 3::bigint, 784.0::numeric), (select sum(value)::text from metric_events); end $$`)
}

// This goes from a shop's events to the report, with three people whose values are easy to add up.
func TestEventsBecomeAReport(t *testing.T) {
	t.Parallel()
	r := serve(t, emptyCluster{})
	revenue := shopMetric("revenue", "sum", "customer.id", "order.total")
	revenue.Spec.Event.Lag = new(experiment.Duration(3 * time.Hour))
	spec := experiment.Spec{
		Services: []string{"like"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FEATURES": "likes"}}, Unit: experiment.User,
		Ramp:    experiment.Ramp{Steps: []int{50}},
		Metrics: experiment.Metrics{Window: experiment.Duration(time.Hour), Primary: experiment.Primary{Name: "revenue", MinimumEffect: .05}},
	}
	spec.Default()
	now := time.Now().Truncate(time.Millisecond)
	began := now.Add(-3 * time.Hour)
	if err := r.db.StartExperiment(t.Context(), experiment.Start{
		Name: "shop", Spec: spec, Salt: "s", UID: "1", Namespace: "3", PlannedUnits: 1000, At: began, Metrics: []experiment.Metric{{Name: "revenue", EventMetric: revenue.Spec}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Transition(t.Context(), "shop", experiment.Transition{ID: "running-0", Phase: experiment.Running, Percent: 50, At: began, Actor: "ada", Reason: "every arm answers"}); err != nil {
		t.Fatal(err)
	}
	r.exec(`insert into users (id, username, name) select n, 'u' || n, 'User' from generate_series(1, 3) n`)
	r.exec(`insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'shop', id, id::text, case id when 3 then 'treatment' else 'control' end, 'none', 'r', 1, $1 from users`, now.Add(-2*time.Hour))
	for i, o := range []struct {
		user, total string
		at          time.Duration // from now
	}{
		{"1", "10.10", -110 * time.Minute}, {"1", "0.20", -61 * time.Minute}, {"2", "1", -59 * time.Minute}, {"3", "7", -2 * time.Hour}, {"4", "9", -2 * time.Hour},
	} {
		for range 2 {
			if status, answer := r.deliver(orderEvent(fmt.Sprint(i), "", fmt.Sprintf(`{"customer":{"id":%s},"order":{"total":%s}}`, o.user, o.total), now.Add(o.at))); status != http.StatusAccepted {
				t.Errorf("%v: %d %s", o, status, answer)
			}
		}
	}
	report, err := readout.Read(t.Context(), r.db, "shop", now.Add(2*time.Hour)) // three hours after the windows
	if err != nil {
		t.Fatal(err)
	}
	p := report.Primary
	if p == nil || p.Control.Mean == nil || p.Treatment.Mean == nil {
		t.Fatalf("%+v", p)
	}
	// The two people in control have 10.3 and, because it was outside the window, nothing.
	if math.Abs(*p.Control.Mean-5.15) > 1e-12 || *p.Treatment.Mean != 7 || p.Control.Units != 2 || p.Late.Counts != (experiment.Counts{}) {
		t.Errorf("%v of %+v against %v of %+v, late %+v", *p.Control.Mean, p.Control, *p.Treatment.Mean, p.Treatment, p.Late)
	}
}
