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
	metrics  string        // where it is scraped
	retired  bool          // its end is wanted
	finished chan struct{} // closed once it has ended
	err      error         // how it ended
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
	cmd := exec.Command(f.state.path("bin", name)) //nolint:noctx // end ends it, and cleanly
	serving, configuration := name, name
	if one.arm != "" { // it is of no Service, as on Knative, and WARBLE_SERVICE says what it is
		serving, configuration = "", one.revision[:strings.LastIndexByte(one.revision, '-')]
	}
	cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port, "METRICS_PORT="+metricsPort,
		"K_SERVICE="+serving, "K_CONFIGURATION="+configuration, "K_REVISION="+one.revision,
		"KUBERNETES_SERVICE_HOST=") // the developer's own container may be in a cluster, of which this is no part
	cmd.Env = append(cmd.Env, one.environment...)
	cmd.Env = append(cmd.Env, f.state.current(one.service)...)
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

// localLimits lets one developer send more than a public API lets a stranger. What the caller's environment says wins.
func localLimits() (limits []string) {
	for name, limit := range map[string]string{"RATE_LIMIT_READ": "1000000/15m", "RATE_LIMIT_WRITE": "1000000/15m", "RATE_LIMIT_AUTH": "100000/1m", "EDGE_REPLICAS": "1"} {
		if value := os.Getenv(name); value != "" {
			limit = value
		}
		limits = append(limits, name+"="+limit)
	}
	return limits
}

// localMail has mail written to the log, where links can be followed, unless the caller's environment names a server.
func localMail(listen string) (settings []string) {
	for name, value := range map[string]string{"SMTP_URL": "log:", "MAIL_FROM": "Warble <warble@localhost>", "PUBLIC_URL": "http://" + listen} {
		settings = append(settings, name+"="+cmp.Or(os.Getenv(name), value))
	}
	return settings
}

// ready waits for a function's probe, and for any answer of a guest, which has none.
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
			return fmt.Errorf("ended before it was ready (%w): its log says why", p.err)
		case <-ctx.Done():
			return errors.New("was not ready in time: its log says why")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end asks a process to finish, and kills it where it does not.
func (p *instance) end() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.finished:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
	}
}

// given are the ports that freeAddress has returned: whoever got one may not listen yet.
var given sync.Map

// freeAddress finds a port on loopback by taking and leaving it. It is below those that Linux and macOS give to connections
// that leave the machine, one of which could take it before the process that it is for.
func freeAddress() (string, error) {
	const first, last, tries = 20_000, 32_000, 100
	var err error
	for range tries {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err == nil {
			return address, listener.Close()
		}
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", first, last, err)
}
