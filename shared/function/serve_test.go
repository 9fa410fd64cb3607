package function

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// running starts f.serve on a free port and returns its URL, the function that ends it, and its result.
func running(t *testing.T, routes Routes, needs ...Dependency) (url string, stop func(), stopped chan error) {
	t.Helper()
	read, write := io.Pipe()
	f := NewTest(write)
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

func TestDrainFinishesWhatRunsAndTakesNothingNew(t *testing.T) {
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
