package function

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// running starts f.serve on a free port and returns its URL, the function that ends it, and its result.
func running(t *testing.T, routes Routes, needs ...Dependency) (url string, stop func(), stopped chan error) {
	t.Helper()
	return runningFor(t, drainLimit, routes, needs...)
}

// runningFor is running with another limit of the drain.
func runningFor(t *testing.T, limit time.Duration, routes Routes, needs ...Dependency) (url string, stop func(), stopped chan error) {
	t.Helper()
	read, write := io.Pipe()
	f := NewTest(write)
	f.drain.limit = limit
	ctx, stop := context.WithCancel(t.Context())
	stopped = make(chan error, 1)
	go func() { stopped <- f.serve(ctx, f.Handler(routes, needs...), needs) }()
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		var line struct{ Message, Address string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.Message == "listening" {
			_, port, _ := strings.Cut(line.Address, "]:")
			go func() { _, _ = io.Copy(io.Discard, read) }()
			return "http://127.0.0.1:" + port, stop, stopped
		}
	}
	t.Fatal("never listened")
	return "", nil, nil
}

// closed remembers that Close was called, and when.
type closed struct{ at atomic.Int64 }

func (*closed) Ready(context.Context) error { return nil }
func (c *closed) Close()                    { c.at.Store(time.Now().UnixNano()) }

func TestADrainFinishesRunningRequestsAndTakesNoNewOnes(t *testing.T) {
	t.Parallel()
	var database closed
	entered, release := make(chan struct{}), make(chan struct{})
	url, stop, stopped := running(t, Routes{
		"GET /slow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-release
			if database.at.Load() != 0 {
				t.Error("the database was closed under a running request")
			}
			_, _ = w.Write([]byte("done"))
		}),
		"GET /quick": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }),
	}, &database)

	client := &http.Client{Transport: &http.Transport{}}
	get := func(path string) (body string, closes bool, err error) {
		answer, err := client.Get(url + path)
		if err != nil {
			return "", false, err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), answer.Close, err
	}
	if body, closes, err := get("/quick"); body != "ok" || closes || err != nil {
		t.Fatalf("%q %v %v", body, closes, err)
	}
	slow := make(chan string, 1)
	go func() {
		body, _, _ := get("/slow")
		slow <- body
	}()
	<-entered
	// /quick again, so that an idle connection is there besides the one that /slow holds.
	if _, _, err := get("/quick"); err != nil {
		t.Fatal(err)
	}
	stop()
	for deadline := time.Now().Add(time.Minute); ; {
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := fresh.Get(url + "/quick")
		if err != nil {
			break
		}
		answer.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("still takes new connections")
		}
	}
	if body, closes, err := get("/quick"); body != "ok" || !closes || err != nil {
		t.Errorf("on the connection it had: %q, Connection: close %v, %v", body, closes, err)
	}
	close(release)
	if body := <-slow; body != "done" {
		t.Errorf("the running request got %q", body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if database.at.Load() == 0 {
		t.Error("the database was not closed")
	}
}

// echoes takes its connection over, and says again what it is told.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	x := Current(r.Context())
	r, end, err := x.Upgrade(r)
	if err != nil {
		Fail(w, r, err)
		return
	}
	defer end()
	x.Switched()
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	defer context.AfterFunc(r.Context(), func() { connection.Close() })()
	_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(connection, buffered)
})

// upgrade opens a connection and asks to echo on it. say sends a line, and returns the one that comes back.
func upgrade(t *testing.T, url string) (say func(line string) (string, error), hangUp func() error) {
	t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	if _, err := io.WriteString(connection, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(connection)
	answer, err := http.ReadResponse(lines, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", answer, err)
	}
	return func(line string) (string, error) {
		if _, err := io.WriteString(connection, line+"\n"); err != nil {
			return "", err
		}
		said, err := lines.ReadString('\n')
		return strings.TrimSpace(said), err
	}, connection.Close
}

func TestDrainWaitsForConnectionsOfOtherProtocolsAndTakesNoNewOnes(t *testing.T) {
	t.Parallel()
	url, stop, stopped := runningFor(t, time.Hour, Routes{"GET /echo": echoes, "GET /quick": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	say, hangUp := upgrade(t, url)
	stop()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := fresh.Get(url + "/quick")
		if err != nil {
			break
		}
		answer.Body.Close()
		if time.Now().After(deadline) {
			t.Fatal("still takes new connections")
		}
	}
	for until := time.Now().Add(2 * lameDuck); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if said, err := say("hello"); said != "hello" {
			t.Fatalf("the connection says %q, %v", said, err)
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("it has ended under a connection that is open: %v", err)
	default:
	}
	if err := hangUp(); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsConnectionsOfOtherProtocolsAtItsLimit(t *testing.T) {
	t.Parallel()
	url, stop, stopped := runningFor(t, lameDuck+100*time.Millisecond, Routes{"GET /echo": echoes})
	say, _ := upgrade(t, url)
	stop()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
	for range 2 { // the first may still be written
		if said, err := say("hello"); err == nil {
			t.Errorf("the connection says %q after the limit", said)
		}
	}
}

func TestADrainRefusesToUpgrade(t *testing.T) {
	t.Parallel()
	f := NewTest(io.Discard)
	f.upgrades.refuse()
	w := httptest.NewRecorder()
	f.Handler(Routes{"GET /echo": echoes}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/echo", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestServesHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	url, stop, stopped := running(t, Routes{"GET /": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	answer, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); string(body) != "HTTP/2.0" {
		t.Errorf("served over %s", body)
	}
	transport.CloseIdleConnections()
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestAJobEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := NewTest(io.Discard)
	for range 50 { // a tick is due as well, and chance must not choose
		runs := 0
		ctx, cancel := context.WithCancel(t.Context())
		f.run(ctx, job{time.Nanosecond, "watch", func(context.Context) error {
			runs++
			time.AfterFunc(time.Millisecond, cancel)
			<-ctx.Done()
			return nil
		}})
		if runs != 1 {
			t.Fatalf("ran %d times", runs)
		}
	}
}
