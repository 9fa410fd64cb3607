package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/websocket"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
)

// shop serves a guest whose answers differ from a function's. name is in each page.
func shop(t testing.TB, name string) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/shop", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Warble-Secret", "what a guest says under this name is nobody's")
		w.Header().Set(headerVariant, "what the guest says of it")
		w.Header().Set("X-Assignment", r.Header.Get(experiment.Header))
		w.Header().Set("X-Baggage", strings.Join(r.Header["Baggage"], ","))
		w.Header().Set("X-Cookie", r.Header.Get("Cookie"))
		fmt.Fprint(w, name)
	})
	mux.HandleFunc("/shop/signed", func(w http.ResponseWriter, r *http.Request) {
		changed := r.Clone(r.Context())
		changed.Header.Set(experiment.Header, strings.Replace(r.Header.Get(experiment.Header), ";user=", ";user=x", 1))
		fmt.Fprintf(w, "%q for what the edge sent, %q for another user", unsigned(r, function.TestKey), unsigned(changed, function.TestKey))
	})
	mux.HandleFunc("/shop/gone", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<h1>"+name+" has no such thing</h1>")
	})
	mux.HandleFunc("/shop/fails", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, name+" fails", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/shop/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, name)
	})
	mux.HandleFunc("/shop/upload", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		fmt.Fprintf(w, "%s %d %x %v", name, n, hash.Sum(nil), err)
	})
	mux.HandleFunc("/shop/download", func(w http.ResponseWriter, _ *http.Request) {
		for range 20 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	})
	mux.HandleFunc("/shop/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			fmt.Fprintf(w, "data: %s %d\n\n", name, n)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
		<-r.Context().Done() // the answer does not end
	})
	mux.HandleFunc("/shop/parts", func(w http.ResponseWriter, r *http.Request) {
		lines := bufio.NewScanner(r.Body)
		_ = http.NewResponseController(w).EnableFullDuplex()
		for lines.Scan() {
			fmt.Fprintln(w, name, lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/shop/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.Handle("/shop/ws", websocket.Handler(func(c *websocket.Conn) {
		_, _ = io.WriteString(c, name)
		_, _ = io.Copy(c, c)
	}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// visitorExperiment returns a shop and an experiment of visitors on it, with both arms.
func visitorExperiment(t testing.TB) (functionEntry, experiment.Rules) {
	t.Helper()
	rules := openTo("checkout", experiment.User, "shop")
	rules.Identity = experiment.Identity{Kind: experiment.ByVisitor, Cookie: "shop_visitor"}
	rules.Reach["shop"] = experiment.Reach{Host: "nobody.example", Control: sideAt(shop(t, "control"), "shop-control-00001"), Treatment: sideAt(shop(t, "treatment"), "shop-treatment-00001")}
	return guestAt(shop(t, "untouched")), rules
}

func guestAt(url string) functionEntry {
	return functionEntry{Name: "shop", URL: url, Routes: []string{"/shop", "/shop/"}, Guest: &guestSettings{}}
}

// cookieFrom returns the cookie that an answer sets, as a request sends it; empty if there is none.
func cookieFrom(a answer) string {
	for _, c := range a.Cookies() {
		return c.Name + "=" + c.Value
	}
	return ""
}

// newVisitorIn sends first requests until one of them is in arm, and returns its cookie.
func newVisitorIn(t testing.TB, edge *rig, arm experiment.Arm) (cookie string) {
	t.Helper()
	for range 200 {
		a := send(t, http.MethodGet, edge.url+"/shop", "")
		if a.body == string(arm) {
			return cookieFrom(a)
		}
	}
	t.Fatalf("of 200 visitors nobody is in %s", arm)
	return ""
}

// TestAGuestsAnswersPassUnchanged: from a function, the 404 would become a problem, and after the 503 the untouched function would
// answer.
func TestAGuestsAnswersPassUnchanged(t *testing.T) {
	t.Parallel()
	edge := start(t, config{limits: limits{{1, time.Hour}, {1, time.Hour}, {1, time.Hour}}})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	cookie := newVisitorIn(t, edge, experiment.Treatment)
	for path, want := range map[string]struct {
		status     int
		kind, body string
	}{
		"/shop":       {200, "text/plain; charset=utf-8", "treatment"},
		"/shop/gone":  {404, "text/html", "<h1>treatment has no such thing</h1>"},
		"/shop/other": {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/shop/fails": {503, "text/plain; charset=utf-8", "treatment fails\n"},
		"/shop/hints": {200, "text/plain; charset=utf-8", "treatment"},
	} {
		a := send(t, http.MethodGet, edge.url+path, "", "Cookie", cookie, "Accept-Encoding", "br")
		if a.StatusCode != want.status || a.Header.Get("Content-Type") != want.kind || a.body != want.body {
			t.Errorf("%s: %s %s %q, want %v", path, a.Status, a.Header.Get("Content-Type"), a.body, want)
		}
		if got := a.Header.Values("X-Request-Id"); len(got) != 1 {
			t.Errorf("%s has the request ids %q", path, got)
		}
		if a.Header.Get(headerRevision) != "shop-treatment-00001" || a.Header.Get(headerExperiment) != "checkout" || strings.Join(a.Header[headerVariant], " ") != "treatment" {
			t.Errorf("%s: the answer does not name its arm and revision: %v", path, a.Header)
		}
		for _, own := range []string{"Warble-Secret", "X-Rate-Limit-Limit", "Set-Cookie"} {
			if a.Header.Get(own) != "" {
				t.Errorf("%s has %s %q", path, own, a.Header.Get(own))
			}
		}
	}
}

// TestAGuestReceivesTheSignedAssignment also checks that a client cannot forge it.
func TestAGuestReceivesTheSignedAssignment(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	a := send(t, http.MethodGet, edge.url+"/shop", "", experiment.Header, "checkout=treatment;user=me;generation=3", "Baggage", "a=b", "Cookie", "theme=dark; shop_visitor=forged.1.x")
	set := cookieFrom(a)
	id, _, _ := strings.Cut(strings.TrimPrefix(set, "shop_visitor="), ".")
	arm, _ := rules.PlaceForeign(id, "")
	if a.body != string(arm) || arm == "" {
		t.Errorf("visitor %s is served %s, want %s", id, a.body, arm)
	}
	if want := fmt.Sprintf("checkout=%s;user=%s;generation=3;exposes", arm, id); a.Header.Get("X-Assignment") != want {
		t.Errorf("the guest is told %q, want %q", a.Header.Get("X-Assignment"), want)
	}
	if want := "a=b,experiment=checkout,arm=" + string(arm); a.Header.Get("X-Baggage") != want {
		t.Errorf("the guest has the baggage %q, want %q", a.Header.Get("X-Baggage"), want)
	}
	if want := "theme=dark; " + set; a.Header.Get("X-Cookie") != want {
		t.Errorf("the guest has the cookies %q, want %q", a.Header.Get("X-Cookie"), want)
	}
	a = send(t, http.MethodGet, edge.url+"/shop/signed", "", "Cookie", set, function.HeaderClient, "1.2.3.4", function.HeaderSignature, "forged")
	if want := `"" for what the edge sent, "a signature does not hold" for another user`; a.body != want || a.Header.Get(headerVariant) != string(arm) {
		t.Errorf("the guest verifies the signature, and finds %s in %s, want %s", a.body, a.Header.Get(headerVariant), want)
	}
}

func TestAVisitorKeepsAValidCookieAndOthersGetANewOne(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	first := send(t, http.MethodGet, edge.url+"/shop", "")
	set := first.Cookies()
	if len(set) != 1 || set[0].Name != "shop_visitor" || !set[0].HttpOnly || !set[0].Secure || set[0].SameSite != http.SameSiteLaxMode ||
		set[0].MaxAge != 365*24*3600 || set[0].Path != "/" || first.Header.Get("Cache-Control") != "private" {
		t.Fatalf("the first answer sets %+v, %v", set, first.Header)
	}
	own := newVisitors(function.TestKey)
	now := time.Now()
	signed := func(v visitors, name, id string, issued time.Time) string {
		text := fmt.Sprintf("%s.%d", id, issued.Unix())
		return text + "." + v.sign(name, text)
	}
	good := set[0].Value
	parts := strings.Split(good, ".")
	for what, c := range map[string]struct {
		value string
		holds bool
	}{
		"its own":                       {good, true},
		"almost a year old":             {signed(own, "shop_visitor", "me", now.Add(-364*24*time.Hour)), true},
		"expired":                       {signed(own, "shop_visitor", "me", now.Add(-366*24*time.Hour)), false},
		"from the future":               {signed(own, "shop_visitor", "me", now.Add(time.Hour)), false},
		"signed by somebody else":       {signed(newVisitors([]byte("another edge's")), "shop_visitor", "me", now), false},
		"another cookie's":              {signed(own, "other_visitor", "me", now), false},
		"with an id that was exchanged": {"me." + parts[1] + "." + parts[2], false},
		"with a later date":             {parts[0] + ".9999999999." + parts[2], false},
		"without a signature":           {parts[0] + "." + parts[1], false},
		"an id alone":                   {parts[0], false},
		"empty":                         {"", false},
		"dots":                          {"..", false},
	} {
		a := send(t, http.MethodGet, edge.url+"/shop", "", "Cookie", "shop_visitor="+c.value)
		if fresh := cookieFrom(a); (fresh == "") != c.holds {
			t.Errorf("a cookie %s: the answer sets %q", what, fresh)
		} else if !c.holds && strings.Contains(a.Header.Get("X-Assignment"), "user=me;") {
			t.Errorf("a cookie %s: %s", what, a.Header.Get("X-Assignment"))
		}
	}
	a := send(t, http.MethodGet, edge.url+"/shop", "", "Cookie", "shop_visitor=forged.1.x; shop_visitor="+good)
	if cookieFrom(a) != "" || a.body != first.body {
		t.Errorf("behind a forged cookie one that holds is not seen: %v", a.Header)
	}
}

// TestAGuestsUsersHaveTheArmsOfTheirTokens tests experiments on a guest whose identity is Warble's own token. Their users have the arms
// that they would have at a function, and each of them is exposed, also if a whole community has the same arm.
func TestAGuestsUsersHaveTheArmsOfTheirTokens(t *testing.T) {
	t.Parallel()
	type exposed struct {
		unit, assigned string
	}
	for _, unit := range []experiment.Unit{experiment.User, experiment.Community} {
		t.Run(string(unit), func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			edge := start(t, config{steerURL: s.url, pod: "edge-1"})
			service, rules := visitorExperiment(t)
			rules.Unit, rules.Identity = unit, experiment.Identity{Kind: experiment.ByToken}
			rules.Open = experiment.Open{Control: 4000, Treatment: 4000}
			edge.writeExperiments(t, []experiment.Rules{rules}, service)
			want, seen := make(map[int64]exposed), make(map[experiment.Arm]int)
			for user := int64(1); user <= 60; user++ {
				community := fmt.Sprint("community-", user%20)
				arm, id := rules.Assign(user, community)
				seen[arm]++
				page, assignment, revision := "untouched", "", ""
				if arm != "" {
					page, assignment, revision = string(arm), fmt.Sprintf("checkout=%s;%s=%s;generation=3;exposes", arm, unit, id), "shop-"+string(arm)+"-00001"
					want[user] = exposed{id, string(arm)}
				}
				for range 2 {
					a := send(t, http.MethodGet, edge.url+"/shop", "", "Authorization", bearerOf(t, edge.issuer, user, community))
					if a.body != page || a.Header.Get("X-Assignment") != assignment || a.Header.Get(headerRevision) != revision || cookieFrom(a) != "" {
						t.Errorf("user %d of %s gets the page %q, want %q with %q of %q: %v", user, community, a.body, page, assignment, revision, a.Header)
					}
				}
			}
			if seen[experiment.Control] == 0 || seen[experiment.Treatment] == 0 || seen[""] == 0 {
				t.Errorf("of 60 users, the rules place %v: expected some in each arm, and some in none", seen)
			}
			for what, headers := range map[string][]string{
				"no token":              nil,
				"another edge's cookie": {"Cookie", "shop_visitor=me.1.x"},
				"another issuer's":      {"Authorization", start(t, config{}).bearer(t, 1)},
			} {
				a := send(t, http.MethodGet, edge.url+"/shop", "", headers...)
				if a.body != "untouched" || a.Header.Get("X-Assignment") != "" || a.Header.Get(headerExperiment) != "" || cookieFrom(a) != "" {
					t.Errorf("who has %s gets the page %q: %v", what, a.body, a.Header)
				}
			}
			got := make(map[int64]exposed)
			eventually(t, "the exposures", func() bool {
				edge.edge.outcomes.sendNow(t)
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, e := range s.exposed {
					got[e.UserID] = exposed{e.Unit, e.Assigned}
					if e.Served != e.Assigned || e.Revision != "shop-"+e.Assigned+"-00001" {
						t.Errorf("%+v", e)
					}
				}
				return len(s.exposed) >= len(want)
			})
			if !maps.Equal(got, want) || len(s.exposed) != len(want) {
				t.Errorf("%d exposures are sent, of %v, want %v", len(s.exposed), got, want)
			}
		})
	}
}

// TestAGuestsRequestsAreDrawnOneByOne tests the unit request. Nobody is assigned, so the guest and the client are told of no arm.
func TestAGuestsRequestsAreDrawnOneByOne(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	rules.Unit, rules.Identity = experiment.Request, experiment.Identity{}
	rules.Open = experiment.Open{Control: 2500, Treatment: 2500}
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	seen := make(map[string]int)
	for range 200 { // an arm gets none of them with a probability of 1e-25
		a := send(t, http.MethodGet, edge.url+"/shop", "", "Authorization", edge.bearer(t, 7), experiment.Header, "checkout=treatment;user=me;generation=3")
		seen[a.body]++
		revision := "shop-" + a.body + "-00001"
		if a.body == "untouched" {
			revision = ""
		}
		if a.Header.Get(headerRevision) != revision {
			t.Errorf("the page %q has the revision %q, want %q", a.body, a.Header.Get(headerRevision), revision)
		}
		for _, name := range []string{"X-Assignment", "X-Baggage", headerExperiment, headerVariant, "Set-Cookie"} {
			if a.Header.Get(name) != "" {
				t.Errorf("the page %q has %s %q", a.body, name, a.Header.Get(name))
			}
		}
	}
	if seen["control"] == 0 || seen["treatment"] == 0 || seen["untouched"] == 0 || len(seen) != 3 {
		t.Errorf("200 requests with half of the slots open: %v", seen)
	}
}

// TestAVisitorKeepsTheirArm across edges and restarts, and at every step of the ramp.
func TestAVisitorKeepsTheirArm(t *testing.T) {
	t.Parallel()
	service, rules := visitorExperiment(t)
	arms := make(map[string]string)
	for _, open := range []int{1000, 2500, 5000, 5000} {
		rules.Open = experiment.Open{Control: open, Treatment: open}
		edge := start(t, config{}) // a new edge each time
		edge.writeExperiments(t, []experiment.Rules{rules}, service)
		for range 30 {
			a := send(t, http.MethodGet, edge.url+"/shop", "")
			arms[cookieFrom(a)] = a.body
		}
		for cookie, arm := range arms {
			a := send(t, http.MethodGet, edge.url+"/shop", "", "Cookie", cookie)
			if a.body != arm && arm != "untouched" {
				t.Errorf("%s was in %s, and is served %s at %d slots", cookie, arm, a.body, open)
			}
			arms[cookie] = a.body
		}
	}
	seen := make(map[string]int)
	for _, arm := range arms {
		seen[arm]++
	}
	if seen["control"] < 30 || seen["treatment"] < 30 || seen["untouched"] > 0 {
		t.Errorf("120 visitors with all slots open: %v", seen)
	}
}

// wantText reads from a connection and checks that want arrives.
func wantText(t testing.TB, connection io.Reader, want string) {
	t.Helper()
	text := make([]byte, len(want))
	if _, err := io.ReadFull(connection, text); err != nil || string(text) != want {
		t.Fatalf("the WebSocket says %q, %v: want %q", text, err, want)
	}
}

// wantEcho sends a text and checks that it comes back.
func wantEcho(t testing.TB, connection io.ReadWriter, text string) {
	t.Helper()
	if _, err := io.WriteString(connection, text); err != nil {
		t.Fatal(err)
	}
	wantText(t, connection, text)
}

func TestAWebSocketGoesThroughAnArm(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	c, err := websocket.NewConfig(strings.Replace(edge.url, "http", "ws", 1)+"/shop/ws", edge.url)
	if err != nil {
		t.Fatal(err)
	}
	c.Header.Set("Cookie", newVisitorIn(t, edge, experiment.Treatment))
	connection, err := c.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	wantText(t, connection, "treatment")
	for n := range 3 {
		wantEcho(t, connection, fmt.Sprint("message ", n))
	}
	if failed := scrape(t, edge.telemetry); strings.Contains(failed, `code="500"`) {
		t.Errorf("the WebSocket counts as failed: %s", failed)
	}
}

// TestAnEdgeThatDrainsWaitsForWebSockets runs an edge as a separate process, and checks that the edge stops after the last
// WebSocket has ended.
func TestAnEdgeThatDrainsWaitsForWebSockets(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "routes.json")
	writeRoutes(t, file, nil, guestAt(shop(t, "untouched")))
	edge, stop := newKeys(t).startProcess(t, "edge", "ROUTES_FILE="+file)
	eventually(t, "the edge", func() bool { return send(t, http.MethodGet, edge+"/shop", "").StatusCode == http.StatusOK })
	connection, err := websocket.Dial(strings.Replace(edge, "http", "ws", 1)+"/shop/ws", "", edge)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	wantText(t, connection, "untouched")
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	eventually(t, "no new connections", func() bool {
		fresh, err := net.Dial("tcp", strings.TrimPrefix(edge, "http://"))
		if err == nil {
			fresh.Close()
		}
		return err != nil
	})
	for n := range 20 { // longer than a drain without WebSockets takes
		time.Sleep(50 * time.Millisecond)
		wantEcho(t, connection, fmt.Sprint("message ", n))
	}
	if err := connection.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the edge still runs")
	}
}

// TestLargeBodiesPassUnbuffered tests uploads and downloads through an arm.
func TestLargeBodiesPassUnbuffered(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	cookie := newVisitorIn(t, edge, experiment.Control)
	const size = 20 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	a := send(t, http.MethodPost, edge.url+"/shop/upload", body, "Cookie", cookie)
	if want := fmt.Sprintf("control %d %x <nil>", size, sha256.Sum256([]byte(body))); a.body != want {
		t.Errorf("an upload of 20 MB: %s, want %s", a.body, want)
	}
	if a = send(t, http.MethodGet, edge.url+"/shop/download", "", "Cookie", cookie); len(a.body) != size {
		t.Errorf("a download has %d bytes", len(a.body))
	}
	// Each part reaches the guest before the next part is sent, and the answer to it comes back before that.
	reader, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, edge.url+"/shop/parts", reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	go fmt.Fprintln(writer, "part 0") // before the headers of the answer
	response, err := http2Transport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for n := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("control part %d", n) {
			t.Fatalf("part %d comes back as %q, %v", n, lines.Text(), lines.Err())
		}
		fmt.Fprintln(writer, "part", n+1)
	}
	writer.Close()
}

// http2Transport returns a transport for HTTP/2 without TLS, in which request and answer bodies flow at the same time.
func http2Transport(t testing.TB) *http.Transport {
	t.Helper()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2.CloseIdleConnections)
	return h2
}

// TestServerSentEventsArriveAsTheyAreSent reads events before the answer has ended.
func TestServerSentEventsArriveAsTheyAreSent(t *testing.T) {
	t.Parallel()
	edge := start(t, config{upstreamTimeout: 100 * time.Millisecond}) // applies to functions only
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url+"/shop/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", newVisitorIn(t, edge, experiment.Treatment))
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for n := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: treatment %d", n) || !lines.Scan() {
			t.Fatalf("event %d is %q, %v", n, lines.Text(), lines.Err())
		}
	}
}

// TestOnlyAFailedDialToAGuestIsRepeated: after any other failure the guest may have acted on the request.
func TestOnlyAFailedDialToAGuestIsRepeated(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service, rules := visitorExperiment(t)
	var cut atomic.Int64
	cutting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cut.Add(1)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	}))
	t.Cleanup(cutting.Close)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	control, treatment := newVisitorIn(t, edge, experiment.Control), newVisitorIn(t, edge, experiment.Treatment)
	reach := rules.Reach["shop"]
	reach.Control, reach.Treatment = sideAt(cutting.URL, "cut"), sideAt("http://"+refusingAddress(t), "refused")
	rules.Reach["shop"] = reach
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	body := strings.Repeat("x", 1<<20)
	a := send(t, http.MethodPost, edge.url+"/shop/upload", body, "Cookie", treatment)
	if want := fmt.Sprintf("untouched %d %x <nil>", len(body), sha256.Sum256([]byte(body))); a.body != want || a.Header.Get(headerRevision) != "" {
		t.Errorf("an arm that cannot be reached: %s %v, want %s", a.body, a.Header, want)
	}
	a = send(t, http.MethodPost, edge.url+"/shop/upload", body, "Cookie", control)
	wantProblem(t, a, problem.Unavailable)
	if cut.Load() != 1 {
		t.Errorf("an arm that breaks off was asked %d times", cut.Load())
	}
}

// TestAGuestHasItsOwnTimeout tests the timeout for the headers of an answer.
func TestAGuestHasItsOwnTimeout(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	service := guestAt(shop(t, "untouched"))
	service.Guest.TimeoutSeconds = 1
	edge.write(t, service)
	wantProblem(t, send(t, http.MethodGet, edge.url+"/shop/hangs", ""), problem.Unavailable)
}

// TestEveryPathOfAGuestsHostGoesToTheGuest includes paths that the edge otherwise answers itself. It also tests the guest's limit.
func TestEveryPathOfAGuestsHostGoesToTheGuest(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	paths := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Host"), " ", r.RequestURI)
	}))
	t.Cleanup(paths.Close)
	mirror, _ := mirror(t)
	edge.write(t, functionEntry{Name: "books", URL: paths.URL, Guest: &guestSettings{Hosts: []string{"books.example.com"}, RateLimit: "5/1h"}},
		functionEntry{Name: "mirror", URL: mirror, Routes: []string{"/m/"}})
	for _, path := range []string{"/", "/docs", "/m/x", "/a//b/../c?d=%zz"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.URL.Opaque = "Books.example.com:8080", path
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if want := "Books.example.com:8080 " + path; err != nil || string(text) != want {
			t.Errorf("%q, %v: want %q", text, err, want)
		}
	}
	if a := send(t, http.MethodGet, edge.url+"/m/x", ""); a.StatusCode != http.StatusOK {
		t.Errorf("another host: %s", a.Status)
	}
	for n := range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "books.example.com"
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := []int{http.StatusOK, http.StatusTooManyRequests}[n]; response.StatusCode != want {
			t.Errorf("call %d of 5: %s", n+5, response.Status)
		}
	}
}

// TestExposuresAreSentOnceWithTheCountPeriods checks that each visitor's exposure is sent until it is stored, and that count periods have
// latencies.
func TestExposuresAreSentOnceWithTheCountPeriods(t *testing.T) {
	t.Parallel()
	s := newSink(t, "503", "cut, and stored", "429")
	edge := start(t, config{steerURL: s.url, pod: "edge-1"})
	service, rules := visitorExperiment(t)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	want := make(map[string]string)
	for n := range 120 {
		path := []string{"/shop", "/shop/gone", "/shop/fails"}[n%3] // whatever the answer
		a := send(t, http.MethodGet, edge.url+path, "")
		cookie := cookieFrom(a)
		id, _, _ := strings.Cut(strings.TrimPrefix(cookie, "shop_visitor="), ".")
		want[id] = a.Header.Get(headerVariant)
		send(t, http.MethodGet, edge.url+"/shop", "", "Cookie", cookie)
	}
	// A count period later.
	edge.edge.outcomes.now = func() time.Time { return time.Now().Add(experiment.CountPeriod) }
	got := make(map[string]string)
	eventually(t, "120 exposures", func() bool {
		edge.edge.outcomes.sendNow(t)
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(got)
		for _, e := range s.exposed {
			got[e.Unit] = e.Assigned
			if e.Served != e.Assigned || e.Revision != "shop-"+e.Assigned+"-00001" || e.Experiment != "checkout" || e.Generation != 3 || e.UserID != 0 || time.Since(e.At) > time.Hour {
				t.Errorf("%+v", e)
			}
		}
		return len(got) >= 120
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(s.exposed) > 120+2*exposuresAtOnce { // two requests were stored, but the edge got no answer
		t.Errorf("120 exposures were sent as %d", len(s.exposed))
	}
	edge.edge.outcomes.Close()
	requests, latencies := int64(0), int64(0)
	for _, w := range s.stored {
		for _, n := range w.Requests {
			requests += n
		}
		for _, n := range w.Latency {
			latencies += n
		}
	}
	if requests != 240 || latencies != 240 {
		t.Errorf("of 240 requests %d are counted, and the latency of %d", requests, latencies)
	}
}

// TestAnExperimentOfVisitorsIsRefusedForAFunction also checks that nobody is then in the experiment.
func TestAnExperimentOfVisitorsIsRefusedForAFunction(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	rules := openTo("likes", experiment.User, "mirror")
	rules.Identity = experiment.Identity{Kind: experiment.ByVisitor}
	service := serveArms(t, &rules)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	a := send(t, http.MethodGet, edge.url+"/m/x", "", "Authorization", edge.bearer(t, 7))
	if a.Header.Get(headerRevision) != "untouched" || cookieFrom(a) != "" || !strings.Contains(edge.log.String(), "mirror is not a guest") {
		t.Errorf("%v\n%s", a.Header, edge.log)
	}
}
