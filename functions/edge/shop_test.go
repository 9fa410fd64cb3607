package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/websocket"

	"warble/shared/experiment"
)

// orders is a broker that records who ordered.
type orders struct {
	mu  sync.Mutex
	all []string // type, subject
}

func (o *orders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, r.Header.Get("Ce-Type")+" "+r.Header.Get("Ce-Subject"))
	w.WriteHeader(http.StatusAccepted)
}

// TestAShopThatKnowsNothingOfWarble runs the program of e2e/guest as three processes, in an experiment of visitors.
func TestAShopThatKnowsNothingOfWarble(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "shop")
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../e2e/guest").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	broker := new(orders)
	sink := httptest.NewServer(broker)
	t.Cleanup(sink.Close)
	serving := func(banner string) (url string) {
		at := refusingAddress(t)
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), "PORT="+at[strings.LastIndexByte(at, ':')+1:], "BANNER="+banner, "K_SINK="+sink.URL)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() }) // the end of its context has stopped it
		url = "http://" + at
		eventually(t, "the shop", func() bool {
			a, err := try(t.Context(), http.MethodGet, url+"/shop", "")
			return err == nil && strings.Contains(a.body, banner)
		})
		return url
	}
	rules := openTo("checkout", experiment.User, "shop")
	rules.Identity = experiment.Identity{Kind: experiment.ByVisitor, Cookie: "shop_visitor"}
	rules.Reach["shop"] = experiment.Reach{Control: sideAt(serving("control"), "shop-control"), Treatment: sideAt(serving("treatment"), "shop-treatment")}
	edge := start(t, config{})
	edge.writeExperiments(t, []experiment.Rules{rules}, guestAt(serving("untouched")))

	var want []string
	for range 10 {
		first := send(t, http.MethodGet, edge.url+"/shop", "")
		arm, cookie := first.Header.Get(headerVariant), cookieFrom(first)
		if !strings.Contains(first.body, "<p>"+arm+"</p>") || arm == "" {
			t.Fatalf("arm %q: %s", arm, first.body)
		}
		if a := send(t, http.MethodPost, edge.url+"/shop/orders", "", "Cookie", cookie); a.StatusCode != http.StatusAccepted || a.Header.Get(headerVariant) != arm {
			t.Errorf("an order in %s: %s %s, by %s", arm, a.Status, a.body, a.Header.Get(headerVariant))
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(cookie, "shop_visitor="), ".")
		want = append(want, "shop.order.v1 "+id)
		if should, _ := rules.PlaceForeign(id, ""); string(should) != arm {
			t.Errorf("visitor %s is in %s, want %s", id, arm, should)
		}
	}
	if got := strings.Join(broker.all, ", "); got != strings.Join(want, ", ") {
		t.Errorf("the broker has %s, want %s", got, want)
	}

	cookie := shopVisitorIn(t, edge, experiment.Treatment)
	if a := send(t, http.MethodGet, edge.url+"/shop/none", "", "Cookie", cookie); a.StatusCode != http.StatusNotFound || !strings.Contains(a.body, "This shop has no such page") {
		t.Errorf("the shop's 404: %s %s", a.Status, a.body)
	}
	body := strings.Repeat("warble", 20<<20/6)
	if a := send(t, http.MethodPost, edge.url+"/shop/upload", body, "Cookie", cookie); a.body != fmt.Sprintf("%d %x\n", len(body), sha256.Sum256([]byte(body))) {
		t.Errorf("an upload of %d bytes: %s %s", len(body), a.Status, a.body)
	}
	c, err := websocket.NewConfig(strings.Replace(edge.url, "http", "ws", 1)+"/shop/ws", edge.url)
	if err != nil {
		t.Fatal(err)
	}
	c.Header.Set("Cookie", cookie)
	connection, err := c.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	for n := range 3 {
		said, heard := fmt.Sprint("message ", n), ""
		if err := websocket.Message.Send(connection, said); err != nil {
			t.Fatal(err)
		}
		if err := websocket.Message.Receive(connection, &heard); err != nil || heard != said {
			t.Fatalf("the WebSocket says %q, %v, want %q", heard, err, said)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url+"/shop/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	stream, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	for n := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", n) || !lines.Scan() {
			t.Fatalf("event %d is %q, %v", n, lines.Text(), lines.Err())
		}
	}
}

// shopVisitorIn returns the cookie of a visitor in an arm, by the edge's headers.
func shopVisitorIn(t testing.TB, edge *rig, arm experiment.Arm) (cookie string) {
	t.Helper()
	for range 200 {
		if a := send(t, http.MethodGet, edge.url+"/shop", ""); a.Header.Get(headerVariant) == string(arm) {
			return cookieFrom(a)
		}
	}
	t.Fatalf("of 200 visitors nobody is in %s", arm)
	return ""
}
