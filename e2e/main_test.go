//go:build e2e

// Package e2e_test tests Warble from outside, over HTTP.
//
// It tests a local run, which it starts once, or the Warble at WARBLE_URL, for example behind a cluster's ingress (WARBLE_HOST
// is the Host header, if it is not the URL's host). Tests that stop or inspect a process need the local run. Elsewhere they
// are skipped, and the run ends with their names. Tests named TestCluster change the cluster of kubectl's current context,
// and restore it. make e2e-cluster runs them, on a deployment that nobody else uses. make e2e-long runs the tests named
// TestLong, which do the same for minutes.
package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"warble/shared/apitest"
	"warble/shared/store/pgserver"
)

// warble is the Warble that all tests use.
var warble target

type target struct {
	url  string // without a slash at its end
	host string // "" for the URL's own

	run      *apitest.Local // nil with WARBLE_URL
	database *pgserver.Server
	folder   string // of the database, to start it again

	cluster fixtures // of tests that change a cluster

	mu      sync.Mutex
	leftOut []string
}

func TestMain(m *testing.M) {
	code, err := warble.test(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func (w *target) test(m *testing.M) (code int, err error) {
	flag.Parse()
	if w.url, w.host = strings.TrimSuffix(os.Getenv("WARBLE_URL"), "/"), os.Getenv("WARBLE_HOST"); w.url != "" {
		if u, err := url.Parse(w.url); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return 0, fmt.Errorf("WARBLE_URL: %q: expected a URL such as http://10.96.0.80", w.url)
		}
		fmt.Printf("e2e: the journeys, on %s %s\n", w.url, w.host)
		code = m.Run()
		err = w.cluster.restore(context.Background())
		slices.Sort(w.leftOut)
		fmt.Printf("e2e: left out, for they need the processes of a local run: %s\n", strings.Join(w.leftOut, ", "))
		return code, err
	}
	if *kills > 0 {
		return m.Run(), nil // the test of kills starts its own processes
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := w.start(context.Background()); err != nil {
		return 0, err
	}
	fmt.Printf("e2e: journeys and faults, on a local run at %s\n", w.url)
	return m.Run(), nil
}

// start starts a local run on a PostgreSQL server that the tests may stop.
func (w *target) start(ctx context.Context) (err error) {
	if w.folder, err = os.MkdirTemp("", "warble-e2e-"); err != nil {
		return err
	}
	if err := w.startDatabase(ctx); err != nil {
		return err
	}
	if w.run, err = apitest.StartLocal(ctx, "DATABASE_URL="+w.database.Superuser("postgres"), "FEATURES=likes"); err != nil {
		return err
	}
	w.url = w.run.URL
	return nil
}

func (w *target) startDatabase(ctx context.Context) (err error) {
	w.database, err = pgserver.Start(ctx, w.folder, pgserver.Options{})
	return err
}

func (w *target) stop() (err error) {
	if w.run != nil {
		err = w.run.Stop()
	}
	if w.database != nil {
		err = errors.Join(err, w.database.Stop())
	}
	return errors.Join(err, os.RemoveAll(w.folder))
}

// processes returns the local run. It skips the test if there is none.
func processes(t *testing.T) *apitest.Local {
	t.Helper()
	if warble.run == nil {
		warble.mu.Lock()
		defer warble.mu.Unlock()
		warble.leftOut = append(warble.leftOut, t.Name())
		t.SkipNow()
	}
	return warble.run
}

// plainURL returns a URL for programs that cannot set a Host header: Warble's own URL, or the URL of a proxy that sets it.
func plainURL(t *testing.T) string {
	t.Helper()
	if warble.host == "" {
		return warble.url
	}
	to, err := url.Parse(warble.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = warble.host
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// client keeps a connection for each of a hundred parallel requests. Its timeout is longer than any answer may take.
var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
