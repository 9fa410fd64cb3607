package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// telemetry measures how much throughput a function loses through telemetry: through all of it, and through each part. It compares the same
// binary without telemetry. Traces are sampled as in production. They go to an agent on the same machine, which reads and drops them; so its CPU
// time counts too.
func (b *bench) telemetry(ctx context.Context) (figures []figure, err error) {
	agent, err := startAgent()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	traces := "DD_TRACE_AGENT_URL=http://" + agent.Addr
	variants := []struct {
		name     string
		settings []string
	}{
		{"nothing", []string{"LOG_LEVEL=error", "METRICS_PORT=0"}},
		{"metrics, logs and traces", []string{traces}},
		{"metrics", []string{"LOG_LEVEL=error"}},
		{"logs", []string{"METRICS_PORT=0"}},
		{"traces", []string{"LOG_LEVEL=error", "METRICS_PORT=0", traces}},
	}
	for _, subject := range []struct {
		function string
		kind     request
		least    float64
	}{
		{"validate", request{Method: "GET", Path: "/auth/validate"}, 0.8},
		{"tweet", post, 0.95},
	} {
		var contestants []contestant
		var servers []*server
		stop := func() (err error) {
			for _, s := range servers {
				err = errors.Join(err, s.stop())
			}
			return err
		}
		for _, v := range variants {
			s, err := b.rig.start(ctx, subject.function, v.settings...)
			if err != nil {
				return figures, errors.Join(err, stop())
			}
			servers = append(servers, s)
			contestants = append(contestants, b.fromEmpty(b.saturate(s, subject.kind).throughput))
		}
		rows, err := interleave(ctx, b.rounds, contestants...)
		if err = errors.Join(err, stop()); err != nil {
			return figures, err
		}
		for i, v := range variants[1:] {
			name := subject.kind.Method + " " + subject.kind.Path + ", " + v.name + " / nothing"
			figures = append(figures, ratioAtLeast(subject.least).figure(name, "1/s", rows[i+1], rows[0]))
		}
	}
	return figures, nil
}

// startAgent starts a server that accepts traces like Datadog's agent from 7.30 on: the tracer then counts the traces that are not kept, and
// does not send them.
func startAgent() (*http.Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"version":"7.72.0","endpoints":["/v0.4/traces","/v0.6/stats"],"client_drop_p0s":true}`) // a tracer that hangs up asks again
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}")
	})
	server := &http.Server{Addr: listener.Addr().String(), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		}
	}()
	return server, nil
}
