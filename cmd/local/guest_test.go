package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

const shopFolder = "../../e2e/guest"

// TestAGuestRunsBesideTheFunctions with the shop of docs/guests.md: once as its Service and once as an arm. The routes file says that it is a guest.
func TestAGuestRunsBesideTheFunctions(t *testing.T) {
	t.Parallel()
	g, err := readGuest(shopFolder, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := stateOf(t)
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.path("bin", g.service.Name()), shopFolder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	r, err := openRecords(s.path(keptFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.keepMetrics(r); err != nil {
		t.Fatal(err)
	}
	if all := r.metrics().Items; len(all) != 1 || all[0].Name != "orders" || all[0].Namespace != namespace || all[0].UID == "" {
		t.Errorf("%+v", all)
	}
	services := []*manifest.Service{g.service}
	f, err := newFleet(s, newConsole(io.Discard, everything, services), "", services, &database{}, r.read())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	if err := f.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster, err := newCluster(t.Context(), r, f, services)
	if err != nil {
		t.Fatal(err)
	}
	all, err := cluster.Services(t.Context(), nil)
	if err != nil || len(all) != 1 || !all[0].Guest || !all[0].Settled || all[0].Pool != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	arm, err := f.addArm(g.service, "an/arm", "banner-shop-treatment-00001", experiment.Treatment, []string{"BANNER=Free delivery today"})
	if err != nil {
		t.Fatal(err)
	}
	f.bringUpLater(t.Context(), arm)
	untouched, _ := f.addressFor("shop")
	within(t, time.Minute, "the pages of both", func() bool {
		return strings.Contains(page(t, untouched), "<p></p>") && strings.Contains(page(t, arm.address), "Free delivery today")
	})
	text, err := os.ReadFile(s.path("warble-routes", "routes.json"))
	if err != nil || !strings.Contains(string(text), `"guest": {`) || !strings.Contains(string(text), `"/shop/"`) {
		t.Errorf("the edge is told %s, %v", text, err)
	}
	if text, err := os.ReadFile(s.path("metrics.json")); err != nil || strings.Contains(string(text), "shop") {
		t.Errorf("a guest is scraped as if it had Warble's metrics: %s, %v", text, err)
	}
}

// page returns the shop's page, empty while the shop does not answer.
func page(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}

// TestTheBrokerDeliversEventsToThePathOfAGuestsTrigger, together with the Triggers of knative/.
func TestTheBrokerDeliversEventsToThePathOfAGuestsTrigger(t *testing.T) {
	t.Parallel()
	came := make(chan string, 1)
	steer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- r.URL.Path + " " + r.Header.Get("Ce-Subject")
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(steer.Close)
	b, err := newBroker("../../knative", "", func(name string) (string, bool) {
		return strings.TrimPrefix(steer.URL, "http://"), name == "steer"
	}, io.Discard)
	if err == nil {
		err = readTriggers(filepath.Join(shopFolder, "metric.yaml"), b.subscribers)
	}
	if err != nil {
		t.Fatal(err)
	}
	sink, stop, err := b.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sink, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Specversion": "1.0", "Id": "1", "Source": "/shop", "Type": "shop.order.v1", "Subject": "visitor-1"} {
		request.Header.Set("Ce-"+name, value)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	select {
	case got := <-came:
		if got != "/events visitor-1" {
			t.Error(got)
		}
	case <-time.After(time.Minute):
		t.Errorf("nobody is brought the event: %s", answer.Status)
	}
}

func TestAFolderWithoutAGuestIsRefused(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"no such file": "",
		"expected a Knative Service with the annotation warble.dev/guest": "kind: Service\nmetadata: {name: shop}\n",
		"expected the annotation warble.dev/routes":                       "kind: Service\nmetadata: {name: shop, annotations: {warble.dev/guest: 'true'}}\n",
		"expected one container":                                          "kind: Service\nmetadata: {name: shop, annotations: {warble.dev/guest: 'true', warble.dev/routes: /shop}}\n",
	} {
		folder := t.TempDir()
		if text != "" {
			if err := os.WriteFile(filepath.Join(folder, "service.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := readGuest(folder, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
