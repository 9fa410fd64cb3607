package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"warble/shared/process"
)

// instance is one process.
type instance struct {
	cmd      *exec.Cmd
	metrics  string        // address of its metrics
	retired  bool          // it may end, and is not started again
	finished chan struct{} // closed when it has ended
	err      error         // its exit error, after finished is closed
}

// launch starts a process of the function on address.
func (f *fleet) launch(one *function, address string) (*instance, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, metricsPort, _ := net.SplitHostPort(metrics)
	name := one.service.Name()
	cmd := exec.Command(f.state.path("bin", name)) //nolint:noctx // end ends it, with time to drain
	serving, configuration := name, name
	if one.arm != "" { // as on Knative, an arm has no K_SERVICE; WARBLE_SERVICE names its Service
		serving, configuration = "", one.revision[:strings.LastIndexByte(one.revision, '-')]
	}
	cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port, "METRICS_PORT="+metricsPort,
		"K_SERVICE="+serving, "K_CONFIGURATION="+configuration, "K_REVISION="+one.revision,
		"KUBERNETES_SERVICE_HOST=") // the developer's container may run in a cluster, which a local run must not use
	cmd.Env = append(cmd.Env, one.environment...)
	cmd.Env = append(cmd.Env, f.state.currentSecrets(one.service)...)
	cmd.Env = append(cmd.Env, "K_SINK="+f.sink)
	if name == "mail" {
		cmd.Env = append(cmd.Env, localMail(f.listen)...)
	}
	if name == "edge" {
		cmd.Env = append(cmd.Env, localLimits()...)
		cmd.Env = append(cmd.Env, "STEER_URL="+f.steer)
	}
	cmd.Stdout, cmd.Stderr = one.log, one.log
	exited, err := process.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", one.name, err)
	}
	p := &instance{cmd: cmd, metrics: metrics, finished: make(chan struct{})}
	go func() {
		p.err = <-exited
		close(p.finished)
	}()
	return p, nil
}

// localLimits returns rate limits for one developer, which are higher than those of a public API. The caller's environment overrides them.
func localLimits() (limits []string) {
	for name, limit := range map[string]string{"RATE_LIMIT_READ": "1000000/15m", "RATE_LIMIT_WRITE": "1000000/15m", "RATE_LIMIT_AUTH": "100000/1m", "EDGE_REPLICAS": "1"} {
		if value := os.Getenv(name); value != "" {
			limit = value
		}
		limits = append(limits, name+"="+limit)
	}
	return limits
}

// localMail returns settings that write mail, with its links, to the log. The caller's environment overrides them.
func localMail(listen string) (settings []string) {
	for name, value := range map[string]string{"SMTP_URL": "log:", "MAIL_FROM": "Warble <warble@localhost>", "PUBLIC_URL": "http://" + listen} {
		settings = append(settings, name+"="+cmp.Or(os.Getenv(name), value))
	}
	return settings
}

// ready waits until a function's probe succeeds. A guest has no such probe, so any answer of a guest is enough.
func (one *function) ready(ctx context.Context, address string, p *instance) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK || one.service.Guest() {
				return nil
			}
		}
		select {
		case <-p.finished:
			return fmt.Errorf("ended before it was ready (%w): see its log", p.err)
		case <-ctx.Done():
			return errors.New("was not ready in time: see its log")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end asks a process to end, and kills it after stopLimit.
func (p *instance) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended already
	select {
	case <-p.finished:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
	}
}

// reserved has the addresses that freeAddress has returned, because their users may not listen yet.
var reserved sync.Map

// freeAddress returns a loopback address with a free port, which it finds by listening and closing. The port is below the range that Linux
// and macOS use for outgoing connections: one of those could otherwise take it first.
func freeAddress() (string, error) {
	const first, last, tries = 20_000, 32_000, 100
	var err error
	for range tries {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if _, taken := reserved.LoadOrStore(address, true); taken {
			continue
		}
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", first, last, err)
}
