//go:build e2e

// Package e2e_test sees Warble as its users do, over HTTP.
//
// It runs against a local run that it starts once, or against what WARBLE_URL names, as a cluster's ingress (WARBLE_HOST
// is the Host header, where it is not the URL's own). Tests that stop a process or look into one are for the local run
// alone; elsewhere they are left out, and the run ends with their names. Those called TestCluster change what kubectl's
// current context holds, and put it back: make e2e-cluster runs them, on a deployment that nobody else uses, and make
// e2e-long those called TestLong, which do that for minutes.
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

// warble is what every test of the run talks to.
var warble target

type target struct {
	url  string // without a slash at its end
	host string // "" for the URL's own

	run      *apitest.Local // nil where Warble runs elsewhere
	database *pgserver.Server
	folder   string // the database's, to start it again on

	cluster fixtures // where tests change a cluster

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
			return 0, fmt.Errorf("WARBLE_URL: %q: expected a URL as http://10.96.0.80", w.url)
		}
		fmt.Printf("e2e: the journeys, on %s %s\n", w.url, w.host)
		code = m.Run()
		err = w.cluster.restore(context.Background())
		slices.Sort(w.leftOut)
		fmt.Printf("e2e: left out, for they need the processes of a local run: %s\n", strings.Join(w.leftOut, ", "))
		return code, err
	}
	if *kills > 0 {
		return m.Run(), nil // that test starts what it kills
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

// processes returns the local run, and leaves the test out where Warble runs elsewhere.
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

// plainURL is a URL for programs that cannot be given a Host header: Warble's own, or that of a proxy which sets it.
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

// client keeps a connection for each of a hundred requests at once. No answer may take as long as its timeout.
var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
