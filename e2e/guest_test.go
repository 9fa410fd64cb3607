//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// guestsCookie is the cookie in which the shop and the edge find a visitor's id.
const guestsCookie = "shop_visitor"

// visitor is somebody who is not signed in, with the cookie of their browser.
type visitor struct {
	*user
	cookie string
	arm    string // of an earlier answer; empty before
	moves  bool   // the arm may change, because of a promotion for example
}

// send sends a request as the visitor, keeps the cookie of the answer, and checks that the arm has not changed.
func (v *visitor) send(method, path, body string) answer {
	v.t.Helper()
	a, err := v.try(method, path, body, "Cookie", v.cookie)
	if err != nil {
		v.t.Errorf("%s %s: %v", method, path, err)
		return a
	}
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == guestsCookie {
			if v.cookie != "" {
				v.t.Errorf("%s %s: a visitor with the cookie %s gets another", method, path, v.cookie)
			}
			v.cookie = c.Name + "=" + c.Value
		}
	}
	if arm := a.header.Get("X-Variant"); arm != "" {
		if v.arm != "" && v.arm != arm && !v.moves {
			v.t.Errorf("%s %s: a visitor of %s is served %s", method, path, v.arm, arm)
		}
		v.arm = arm
	}
	return a
}

// guest applies the shop and its metric. They are deleted when the test ends.
func guest(t *testing.T) {
	t.Helper()
	objects, err := execute(t.Context(), "", "go", "tool", "-modfile=tools/ko/go.mod", "ko", "resolve", "--base-import-paths", "--sbom=none", "-f", "e2e/guest/service.yaml")
	if err != nil {
		t.Fatal(err)
	}
	metric, err := os.ReadFile("guest/metric.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "delete", "--ignore-not-found", "ksvc/shop", "trigger/metric-shop-order", "metrics.warble.dev/orders"); err != nil {
			t.Error(err)
		}
	})
	const whole = "subjectIsUnit: true}"
	soon := strings.Replace(string(metric), whole, "subjectIsUnit: true, lag: 20s}", 1) // otherwise a verdict would take a quarter of an hour
	if soon == string(metric) {
		t.Fatalf("guest/metric.yaml has no %s", whole)
	}
	for _, text := range []string{objects, soon} {
		if _, err := kubectl(t.Context(), text, "apply", "--filename=-"); err != nil {
			t.Fatal(err)
		}
	}
	untilReady(t, "shop")
	within(t, "the shop through the edge", readyLimit, func() bool { return (&user{t: t}).do("GET", "/shop", "").status == http.StatusOK })
}

// visitors returns an experiment with visitors of the shop. env are the treatment's variables.
func visitors(t *testing.T, env map[string]experiment.Value) *experimentRun {
	t.Helper()
	return newExperiment(t, func(s *experiment.Spec) {
		s.Services, s.Treatment.Env, s.Unit = []string{"shop"}, env, experiment.User
		s.Identity = experiment.Identity{Kind: experiment.ByVisitor, Cookie: guestsCookie}
		s.Ramp.Hold.Time, s.Metrics.Window = new(experiment.Duration(3*time.Minute)), experiment.Duration(time.Minute)
		s.Metrics.Primary = experiment.Primary{Name: "orders", MinimumEffect: .3}
		s.Promote, s.Alpha = "automatic", .01
		s.Plan = experiment.Known{UnitsPerDay: 1_000_000, Mean: 1, CV: .9} // five orders at .2 each, as below
	})
}

// An experiment with visitors of a Service that does not use Warble: visitors who see the treatment's banner order twice as often.
// The effect is found and promoted. Meanwhile an edge is replaced, and requests that only a guest answers go through an arm.
func TestClusterAGuestsVisitorsAreInAnExperiment(t *testing.T) {
	cluster(t)
	guest(t)
	e := visitors(t, map[string]experiment.Value{"BANNER": "Free delivery"})
	e.mustKn("start", "-f", e.file)
	var mu sync.Mutex
	var everyone []*visitor
	shopping := func(ctx context.Context) {
		for ctx.Err() == nil {
			v := &visitor{user: &user{t: t}, moves: true} // a promotion may change their arm between two requests
			page := v.send("GET", "/shop", "")
			often := .2
			if strings.Contains(page.body, "Free delivery") {
				often = .4
			}
			for range 5 {
				if rand.Float64() < often {
					if a := v.send("POST", "/shop/orders", ""); a.status != http.StatusAccepted {
						t.Errorf("an order: %d %s", a.status, a.body)
					}
				}
			}
			mu.Lock()
			everyone = append(everyone, v)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
	}
	ctx, enough := context.WithCancel(t.Context())
	var all sync.WaitGroup
	const workers = 4
	for range workers {
		all.Go(func() { shopping(ctx) })
	}
	t.Cleanup(func() { enough(); all.Wait() })
	within(t, "visitors in both arms", readyLimit, func() bool {
		mu.Lock()
		defer mu.Unlock()
		seen := make(map[string]int)
		for _, v := range everyone {
			seen[v.arm]++
		}
		return seen["control"] >= 20 && seen["treatment"] >= 20
	})
	run(t, "delete", "pod", "--wait=false", pods(t, "edge")[0])
	mu.Lock()
	early := append([]*visitor(nil), everyone...)
	mu.Unlock()
	for range 3 {
		for _, v := range early {
			v.moves = false
			if a := v.send("GET", "/shop", ""); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("X-Revision"), e.name+"-shop-"+v.arm) {
				t.Fatalf("a visitor of %s: %d by %s", v.arm, a.status, a.header.Get("X-Revision"))
			}
		}
	}
	for _, v := range early {
		if v.arm == "treatment" {
			asAGuest(t, v)
			break
		}
	}

	var status rollout.Status
	within(t, "its promotion", 20*time.Minute, func() bool {
		status = e.object().Status
		return status.Phase == experiment.Concluded
	})
	enough()
	all.Wait()
	if status.Conclusion != experiment.WasPromoted {
		t.Errorf("it ended as %s, because %q", status.Conclusion, status.Because)
	}
	code, said := e.kn("report", e.name, "-o", "json")
	if code != 0 && code != 3 || !strings.Contains(said, "the exposures of its last 10 s are lost") {
		t.Errorf("exit code %d: the report does not say what is lost if an edge dies", code)
	}
	untilReady(t, "shop")
	within(t, "the banner for everyone", readyLimit, func() bool {
		return strings.Contains((&user{t: t}).do("GET", "/shop", "").body, "Free delivery")
	})
}

// asAGuest checks requests that only a guest answers, through the arm of a visitor.
func asAGuest(t *testing.T, v *visitor) {
	t.Helper()
	if a := v.send("GET", "/shop/none", ""); a.status != http.StatusNotFound || !strings.Contains(a.body, "This shop has no such page") {
		t.Errorf("the shop's own 404: %d %s", a.status, a.body)
	}
	body := bytes.Repeat([]byte("warble"), 20<<20/6)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, warble.url+"/shop/upload", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = warble.host
	request.Header.Set("Cookie", v.cookie)
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil || text.String() != fmt.Sprintf("%d %x\n", len(body), sha256.Sum256(body)) {
		t.Errorf("an upload of 20 MB: %s %s, %v", answer.Status, text.String(), err)
	}
	if arm := answer.Header.Get("X-Variant"); arm != v.arm {
		t.Errorf("the upload went to %q, want %s", arm, v.arm)
	}
	if err := echoes(t.Context(), v); err != nil {
		t.Errorf("the WebSocket: %v", err)
	}
}

// echoes sends a text over a WebSocket, and checks that it comes back.
func echoes(ctx context.Context, v *visitor) error {
	to, err := url.Parse(warble.url)
	if err != nil {
		return err
	}
	host := warble.host
	if host == "" {
		host = to.Host
	}
	c, err := websocket.NewConfig("ws://"+host+"/shop/ws", "http://"+host)
	if err != nil {
		return err
	}
	c.Header.Set("Cookie", v.cookie)
	address := to.Host
	if to.Port() == "" {
		address = net.JoinHostPort(to.Host, "80")
	}
	connection, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	ws, err := websocket.NewClient(c, connection)
	if err != nil {
		return err
	}
	for n := range 3 {
		said, heard := fmt.Sprint("message ", n), ""
		if err := errors.Join(websocket.Message.Send(ws, said), websocket.Message.Receive(ws, &heard)); err != nil || heard != said {
			return fmt.Errorf("%q comes back as %q: %w", said, heard, err)
		}
	}
	return nil
}

// A guest's failing treatment is rolled back because of the edges' counts. The guest itself reports nothing.
func TestClusterAGuestThatFailsIsRolledBack(t *testing.T) {
	cluster(t)
	guest(t)
	e := visitors(t, map[string]experiment.Value{"FAIL": "100"})
	people := make([]*visitor, 40)
	for i := range people {
		people[i] = &visitor{user: &user{t: t}}
	}
	e.mustKn("start", "-f", e.file)
	within(t, "its rollback", readyLimit, func() bool {
		for _, v := range people {
			v.send("GET", "/shop", "")
		}
		return e.object().Status.Phase == experiment.Concluded
	})
	if because := e.object().Status.Because; !strings.HasPrefix(because, "rolled back: the treatment fails") {
		t.Errorf("because %q", because)
	}
	if a := (&user{t: t}).do("GET", "/shop", ""); a.status != http.StatusOK || a.header.Get("X-Variant") != "" {
		t.Errorf("after the rollback: %d of %q", a.status, a.header.Get("X-Variant"))
	}
	e.checkServicesUnchanged()
}
