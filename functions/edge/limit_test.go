package main

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
	"warble/shared/problem"
)

// clock is a time that tests can set.
type clock struct{ at atomic.Int64 }

func newClock(at time.Time) *clock {
	c := new(clock)
	c.at.Store(at.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// noon is not a whole second, so that rounding shows.
var noon = time.Unix(1_800_000_000, 250_000_000)

var ada = netip.MustParseAddr("203.0.113.9")

func TestLimitsFromEnv(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		set  map[string]string
		want limits
	}{
		{"defaults", nil, limits{{900, 15 * time.Minute}, {300, 15 * time.Minute}, {60, time.Minute}}},
		{"own", map[string]string{"RATE_LIMIT_READ": "10/1s", "RATE_LIMIT_AUTH": "5/2h"}, limits{{10, time.Second}, {300, 15 * time.Minute}, {5, 2 * time.Hour}}},
	}
	for _, tt := range tests {
		e := variables(tt.set)
		if diff := cmp.Diff(tt.want, limitsFromEnv(e), cmp.AllowUnexported(limit{})); diff != "" || e.Err() != nil {
			t.Error(tt.name, diff, e.Err())
		}
	}
	for _, wrong := range []string{"900", "900/", "/15m", "0/15m", "-1/15m", "many/15m", "900/15", "900/10ms", "900/1500ms", "900/-1m", "9e9/1m"} {
		e := variables(map[string]string{"RATE_LIMIT_WRITE": wrong})
		limitsFromEnv(e)
		want := `RATE_LIMIT_WRITE is "` + wrong + `": expected calls per window of whole seconds, such as 300/15m`
		if err := e.Err(); err == nil || err.Error() != want {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]class{
		"GET /2/tweets/1": read, "HEAD /2/tweets/1": read, "OPTIONS /2/tweets": read, "GET /openapi.yaml": read, "GET /.well-known/jwks.json": read,
		"POST /2/tweets": write, "DELETE /2/tweets/1": write, "PUT /nothing": write, "POST /feedback": write, "BREW /2/tweets": write,
		"POST /auth/login": auth, "POST /auth/register": auth, "POST /auth/refresh": auth, "GET /auth/login": auth, "POST /auth/logout": auth,
		"GET /auth/validate": read, "POST /auth/validate": read, "POST /%61uth/login": auth, "POST /authority": write,
	} {
		method, target, _ := strings.Cut(request, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "http://edge"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := classOf(r); got != want {
			t.Errorf("%s is %s, want %s", request, classNames[got], classNames[want])
		}
	}
}

// TestTheHeadersCountDownAndStartAgain goes through one window of three calls and into the next.
func TestTheHeadersCountDownAndStartAgain(t *testing.T) {
	t.Parallel()
	now := newClock(noon)
	m := newLimiter(limits{read: {3, 15 * time.Minute}}, now.now)
	headers := func(remaining, reset, rest string) http.Header {
		return http.Header{
			"X-Rate-Limit-Limit": {"3"}, "X-Rate-Limit-Remaining": {remaining}, "X-Rate-Limit-Reset": {reset},
			"Ratelimit-Policy": {`"read";q=3;w=900`}, "Ratelimit": {`"read";r=` + remaining + `;t=` + rest},
		}
	}
	tests := []struct {
		after time.Duration
		wait  time.Duration
		want  http.Header
	}{
		{0, 0, headers("2", "1800000901", "900")},
		{500 * time.Millisecond, 0, headers("1", "1800000901", "900")}, // 899.5 s, rounded up
		{4500 * time.Millisecond, 0, headers("0", "1800000901", "895")},
		{time.Minute, 835 * time.Second, headers("0", "1800000901", "835")},
		{834*time.Second + 999*time.Millisecond, time.Millisecond, headers("0", "1800000901", "1")},
		{time.Millisecond, 0, headers("2", "1800001801", "900")}, // the next window has begun
	}
	for i, tt := range tests {
		now.advance(tt.after)
		got := http.Header{}
		if wait := m.take(got, read, 0, ada); wait != tt.wait {
			t.Errorf("call %d waits %s, want %s", i, wait, tt.wait)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("call %d: %s", i, diff)
		}
	}
}

// TestAClientThatWaitsUntilResetIsServed: the header is in whole seconds, and a client that relies on it must not come too early.
func TestAClientThatWaitsUntilResetIsServed(t *testing.T) {
	t.Parallel()
	for fraction := range 10 {
		now := newClock(time.Unix(1_800_000_000, int64(fraction)*1e8+1))
		m := newLimiter(limits{read: {1, time.Minute}}, now.now)
		header := http.Header{}
		m.take(header, read, 0, ada)
		reset, err := strconv.ParseInt(header.Get("X-Rate-Limit-Reset"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		now.at.Store(time.Unix(reset, 0).UnixNano())
		if wait := m.take(http.Header{}, read, 0, ada); wait != 0 {
			t.Errorf("begun at .%d: %s early", fraction, wait)
		}
	}
}

func TestACallIsCountedForItsUserOrAddress(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr
	tests := []struct {
		name          string
		class         class
		firstUser     int64
		first         string
		secondUser    int64
		second        string
		sameAllowance bool
	}{
		{"one address", read, 0, "203.0.113.9", 0, "203.0.113.9", true},
		{"two addresses", read, 0, "203.0.113.9", 0, "203.0.113.10", false},
		{"one /64", read, 0, "2001:db8:1:2::3", 0, "2001:db8:1:2:ffff::4", true},
		{"two /64", read, 0, "2001:db8:1:2::3", 0, "2001:db8:1:3::3", false},
		{"one user from two addresses", write, 7, "203.0.113.9", 7, "198.51.100.1", true},
		{"two users from one address", write, 7, "203.0.113.9", 8, "203.0.113.9", false},
		{"a user and a stranger from one address", read, 7, "203.0.113.9", 0, "203.0.113.9", false},
		{"two users log in from one address", auth, 7, "203.0.113.9", 8, "203.0.113.9", true},
		{"a user and a stranger log in from one address", auth, 7, "203.0.113.9", 0, "203.0.113.9", true},
		{"one user logs in from two addresses", auth, 7, "203.0.113.9", 7, "198.51.100.1", false},
	}
	for _, tt := range tests {
		m := newLimiter(limits{{1, time.Minute}, {1, time.Minute}, {1, time.Minute}}, newClock(noon).now)
		m.take(http.Header{}, tt.class, tt.firstUser, address(tt.first))
		wait := m.take(http.Header{}, tt.class, tt.secondUser, address(tt.second))
		if (wait > 0) != tt.sameAllowance {
			t.Errorf("%s: waits %s", tt.name, wait)
		}
	}
	m := newLimiter(limits{{1, time.Minute}, {1, time.Minute}, {1, time.Minute}}, newClock(noon).now)
	for class := range classes {
		if wait := m.take(http.Header{}, class, 7, ada); wait != 0 {
			t.Errorf("%s spends another class's allowance", classNames[class])
		}
	}
}

// TestRemainingIsExact makes concurrent calls: each number appears once, and exactly the allowed calls pass.
func TestRemainingIsExact(t *testing.T) {
	t.Parallel()
	const calls, limit = 1000, 600
	m := newLimiter(limits{read: {limit, time.Minute}}, newClock(noon).now)
	var said [limit + 1]atomic.Int32
	var refused atomic.Int32
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range calls / 10 {
				header := http.Header{}
				if m.take(header, read, 7, ada) > 0 {
					refused.Add(1)
				} else if left, err := strconv.Atoi(header.Get("X-Rate-Limit-Remaining")); err != nil {
					t.Error(err)
				} else {
					said[left].Add(1)
				}
			}
		})
	}
	all.Wait()
	for left := range limit {
		if n := said[left].Load(); n != 1 {
			t.Errorf("%d answers say that %d calls are left", n, left)
		}
	}
	if refused.Load() != calls-limit {
		t.Errorf("%d refused, want %d", refused.Load(), calls-limit)
	}
}

// TestAFloodOfAddressesTakesBoundedMemory also checks that no client with a new address is refused, during the flood or after it.
func TestAFloodOfAddressesTakesBoundedMemory(t *testing.T) { //nolint:paralleltest // it measures the heap
	const flood = shards * perShard * 5 / 4
	now := newClock(noon)
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	m := newLimiter(limits{read: {1, time.Minute}}, now.now)
	header := http.Header{}
	for i := range flood {
		if wait := m.take(header, read, 0, netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})); wait != 0 {
			t.Fatalf("address %d waits %s at its first call", i, wait)
		}
	}
	counts := 0
	for i := range m.shards {
		counts += len(m.shards[i].counts)
	}
	grown := float64(heap()-before) / (1 << 20)
	t.Logf("%d addresses: %d counts in %.1f MiB", flood, counts, grown)
	if counts > shards*perShard || grown > 44 {
		t.Errorf("%d counts in %.1f MiB, want at most %d in 44", counts, grown, shards*perShard)
	}
	now.advance(2 * time.Minute)
	m.take(header, read, 7, ada)
	if wait := m.take(header, read, 7, ada); wait == 0 {
		t.Error("a caller that comes after the flood is not counted")
	}
	runtime.KeepAlive(m)
}

func TestACallAboveTheLimitIsA429(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"POST /auth/login": handlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("in")) })})
	edge := start(t, config{limits: limits{{1, time.Hour}, {1, time.Hour}, {2, time.Hour}}}, functionEntry{Name: "login", URL: url, Routes: []string{"/auth/login"}})
	before := time.Now() // the window begins after it
	for _, remaining := range []string{"1", "0"} {
		a := send(t, http.MethodPost, edge.url+"/auth/login", "")
		if a.StatusCode != http.StatusOK || a.Header.Get("X-Rate-Limit-Remaining") != remaining {
			t.Errorf("%s %v", a.Status, a.Header)
		}
	}
	a := send(t, http.MethodPost, edge.url+"/auth/login", "", "Authorization", edge.bearer(t, 7)) // a token does not allow more
	took := time.Since(before)
	wantProblem(t, a, problem.TooMany)
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		t.Fatal(err)
	}
	reset, err := strconv.ParseInt(a.Header.Get("X-Rate-Limit-Reset"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	left, until := time.Duration(wait)*time.Second, time.Unix(reset, 0).Sub(before)
	if left < time.Hour-took || left > time.Hour || until < time.Hour || until > time.Hour+took+time.Second {
		t.Errorf("Retry-After %d, and reset in %s, %s after the first call", wait, until, took)
	}
	if a.Header.Get("X-Rate-Limit-Remaining") != "0" || !strings.Contains(a.body, fmt.Sprintf("try again in %d s", wait)) {
		t.Errorf("%s %v", a.body, a.Header)
	}
	if line := edge.log.line(t, a.Header.Get("X-Request-Id")); line["level"] != "info" || line["http.status_code"] != 429.0 {
		t.Errorf("log line %v", line)
	}
}

// TestEveryAnswerHasTheLimits includes the edge's own answers.
func TestEveryAnswerHasTheLimits(t *testing.T) {
	t.Parallel()
	edge := start(t, config{}, functionEntry{Name: "gone", URL: "http://" + refusingAddress(t), Routes: []string{"/gone"}})
	for path, status := range map[string]int{"/nothing": 404, "//": 404, "/openapi.yaml": 200, "/docs": 200, "/gone": 503} {
		a := send(t, http.MethodGet, edge.url+path, "")
		if a.StatusCode != status {
			t.Errorf("%s: %s", path, a.Status)
		}
		for _, name := range []string{"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset", "Ratelimit", "Ratelimit-Policy"} {
			if a.Header.Get(name) == "" {
				t.Errorf("%s: no %s", path, name)
			}
		}
	}
}

func BenchmarkTake(b *testing.B) {
	for name, flood := range map[string]bool{"one": false, "flood": true} {
		b.Run(name, func(b *testing.B) {
			m := newLimiter(limits{read: {1 << 30, time.Hour}}, time.Now)
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				header := http.Header{}
				for pb.Next() {
					user := int64(7)
					if flood {
						user = next.Add(1)
					}
					m.take(header, read, user, ada)
				}
			})
		})
	}
}
