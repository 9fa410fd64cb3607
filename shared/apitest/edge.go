package apitest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"warble/shared/process"
)

const (
	moreStartLimit = 2 * time.Minute // on a machine that may be busy
	moreStopLimit  = 2 * time.Minute
)

// Edge starts one more edge of the same Warble, as Function does. It has the routes of the first one unless ROUTES_FILE
// says otherwise.
func (l *Local) Edge(t testing.TB, settings ...string) (url string) {
	t.Helper()
	return l.Function(t, "edge", append([]string{"ROUTES_FILE=" + filepath.Join(l.folder, "warble-routes", "routes.json")}, settings...)...)
}

// Function starts one more process of a function, with its own settings ("RATE_LIMIT_READ=1/15m"), until the test ends.
// It has the public keys of the others. It returns once the function is ready.
func (l *Local) Function(t testing.TB, name string, settings ...string) (url string) {
	t.Helper()
	return l.more(t, name, settings, isOK)
}

// Unready starts a function that lacks something, as Function does. It returns once the function answers.
func (l *Local) Unready(t testing.TB, name string, settings ...string) (url string) {
	t.Helper()
	return l.more(t, name, settings, isAny)
}

// more starts a process of a function, and waits until its probe answers with a status that enough accepts.
func (l *Local) more(t testing.TB, name string, settings []string, enough func(status int) bool) (url string) {
	t.Helper()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(filepath.Join(l.folder, "bin", name)) //nolint:noctx // the cleanup ends it cleanly
	cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port, "METRICS_PORT=0", "K_SERVICE="+name, "K_REVISION="+name+"-test",
		"TOKEN_PUBLIC_KEYS_FILE="+filepath.Join(l.folder, "warble-token-public", "jwks.json"),
		"EDGE_KEY_FILE="+filepath.Join(l.folder, "warble-edge", "key"))
	cmd.Env = append(cmd.Env, settings...)
	var log output
	cmd.Stdout, cmd.Stderr = &log, &log
	exited, err := process.Start(cmd, syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, log.String())
			}
		case <-time.After(moreStopLimit):
			t.Errorf("%s did not stop within %s: %v", name, moreStopLimit, cmd.Process.Kill())
		}
	})
	url = "http://" + address
	if err := answers(t.Context(), url+"/healthz", enough); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, log.String())
	}
	return url
}

func isOK(status int) bool { return status == http.StatusOK }

func isAny(int) bool { return true }

// answers waits until something answers at url with a status that enough accepts.
func answers(ctx context.Context, url string, enough func(status int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, moreStartLimit)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close() // it was not read
			if enough(answer.StatusCode) {
				return nil
			}
			err = errors.New(answer.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no acceptable answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// freeAddress finds a free port of loopback by listening on it and closing it again.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
