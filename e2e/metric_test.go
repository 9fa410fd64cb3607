//go:build e2e

package e2e_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"warble/shared/apitest"
	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// resources returns a client of the resources that a local run serves.
func resources(t *testing.T, run *apitest.Local) *knative.Cluster {
	t.Helper()
	kubeconfig, err := run.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := knative.New(config, "warble", nil)
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

// A metric of somebody else's events: from the Metric to the report, without a cluster and a Broker.
func TestLocalMetricOfEvents(t *testing.T) {
	processes(t)
	// Its primary metric counts events that no function of Warble has.
	file := likesFile(t, "10m", "{window: 10s, primary: {name: revenue, minimumEffect: 5%}, secondary: [buyers]}")
	l := newLocal(t)
	var err error
	if l.run, err = apitest.StartLocal(t.Context(), "DATABASE_URL="); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.run.Stop(); err != nil {
			t.Error(err)
		}
	})
	cluster := resources(t, l.run)
	spec := experiment.EventMetric{
		Label: "Revenue per person", Unit: "EUR", Direction: "up", Kind: experiment.KindSum,
		Event: experiment.EventSource{Type: "shop.order.v1", Unit: "customer.id", Value: "order.total", Lag: new(experiment.Duration(30 * time.Second))},
	}
	if err := cluster.CreateMetric(t.Context(), &rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: "revenue"}, Spec: spec}); err != nil {
		t.Fatal(err)
	}
	if said := l.knRefused("start", "-f", file, "--anyway"); !strings.Contains(said, `metric "buyers": expected one of active_days`) || !strings.Contains(said, "tweets_per_user, revenue") {
		t.Errorf("of a metric that nobody has: %s", said)
	}
	spec.Label, spec.Unit, spec.Kind, spec.Event.Value = "People who buy", "users", experiment.KindProportion, ""
	if err := cluster.CreateMetric(t.Context(), &rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: "buyers"}, Spec: spec}); err != nil {
		t.Fatal(err)
	}
	if said := l.kn("plan", "-f", file, "--anyway"); !strings.Contains(said, "revenue: Revenue per person, in EUR") {
		t.Error(said)
	}
	l.kn("start", "-f", file, "--anyway")
	l.waitForLog("likes-e2e: Running, step 1/1 50%", 1)

	steer, err := l.run.SteerURL()
	if err != nil {
		t.Fatal(err)
	}
	deliver := func(id, data string, at time.Time) int {
		t.Helper()
		e := event.New()
		e.SetID(id)
		e.SetSource("urn:shop")
		e.SetType("shop.order.v1")
		e.SetTime(at)
		if err := e.SetData(event.ApplicationJSON, []byte(data)); err != nil {
			t.Fatal(err)
		}
		e.DataBase64 = false
		request, err := cehttp.NewHTTPRequestFromEvent(t.Context(), steer+"/events", e)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	var people experiment.Counts
	sums, buyers := make(map[experiment.Arm]float64), make(map[experiment.Arm]float64)
	for i := range 12 {
		u := l.register()
		l.use(u)
		at := time.Now() // within the window, which has just begun
		arm := l.arms[u.id]
		if arm == experiment.Control {
			people.Control++
		} else {
			people.Treatment++
		}
		for n := range i % 3 { // of three users, one buys nothing, one once and one twice
			total := float64(i+n) + .25
			sums[arm] += total
			for range 2 { // a Broker delivers at least once
				if status := deliver(fmt.Sprintf("%d-%d", i, n), fmt.Sprintf(`{"customer":{"id":%q},"order":{"total":%v}}`, u.id, total), at.Add(time.Duration(n)*time.Millisecond)); status != http.StatusAccepted {
					t.Errorf("order %d of person %d: %d", n, i, status)
				}
			}
		}
		if i%3 > 0 {
			buyers[arm]++
		}
	}
	if status := deliver("wrong", `{"customer":{"id":"1"},"order":{"total":"free"}}`, time.Now()); status != http.StatusUnprocessableEntity {
		t.Errorf("an order without a number: %d", status)
	}
	eventually(t, "a report in which everyone's window is frozen", 2*time.Minute, func() bool { return l.report().Units.Completed == people })
	r := l.report()
	mean := func(sum float64, n int64) *float64 {
		if n == 0 {
			return nil
		}
		value := sum / float64(n)
		return &value
	}
	same := func(a, b *float64) bool {
		return a == nil && b == nil || a != nil && b != nil && math.Abs(*a-*b) < 1e-9
	}
	for _, tt := range []struct {
		name string
		got  *float64
		sum  float64
		n    int64
	}{
		{"revenue, control", r.Primary.Control.Mean, sums[experiment.Control], people.Control},
		{"revenue, treatment", r.Primary.Treatment.Mean, sums[experiment.Treatment], people.Treatment},
		{"buyers, control", r.Secondary[0].Control.Mean, buyers[experiment.Control], people.Control},
		{"buyers, treatment", r.Secondary[0].Treatment.Mean, buyers[experiment.Treatment], people.Treatment},
	} {
		if want := mean(tt.sum, tt.n); !same(tt.got, want) {
			t.Errorf("%s: %v, want %v of %d", tt.name, tt.got, want, tt.n)
		}
	}
	if said := l.kn("report", "likes-e2e"); !strings.Contains(said, "Revenue per person") {
		t.Error(said)
	}
}
