package function

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/experiment"
)

// The server's timeouts. A body has at most 64 KiB, so no honest client needs longer than readTimeout to send it.
// writeTimeout is longer than the edge's UPSTREAM_TIMEOUT.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 64 << 10 // the edge refuses headers over half of this with a problem; net/http's own refusal is not a problem

	// drainLimit is how long SIGTERM waits for running requests: under Knative's and Kubernetes' 30 s.
	drainLimit = 25 * time.Second
	// lameDuck is how long a draining process still answers on open connections, and asks the peers to close them. So a peer that has just
	// written a request on an idle connection gets an answer and not a reset.
	lameDuck = 500 * time.Millisecond
)

// drain is the state of the drain, which begins with SIGTERM.
type drain struct {
	begun atomic.Bool
	limit time.Duration // how long it takes at most; 0 means drainLimit
}

// Serve answers routes until SIGTERM or SIGINT. Then it finishes running requests, closes needs and returns. If the configuration
// is wrong, it logs one line for each mistake and exits with status 2 before it listens. If it cannot listen, it exits with status
// 1.
func (f *Function) Serve(routes Routes, needs ...Dependency) {
	f.ServeHandler(f.mux(routes), needs...)
}

// ServeHandler is Serve for a function that routes by itself, like the edge. handler sets Current(ctx).Route to the route of a request.
func (f *Function) ServeHandler(handler http.Handler, needs ...Dependency) {
	log := f.Telemetry.Log
	if err := f.mistakes(); err != nil {
		for mistake := range strings.SplitSeq(err.Error(), "\n") {
			log.Error().Msg("configuration: " + mistake)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := f.serve(ctx, f.whole(handler, needs), needs); err != nil {
		log.Error().Err(err).Msg("stopped")
		os.Exit(1)
	}
}

// mistakes returns the mistakes of the configuration, one a line; nil if there are none.
func (f *Function) mistakes() error {
	if f.served.experiment != "" && f.latencies == nil {
		f.Env.Reject(experiment.EnvExperiment, f.served.experiment, "nothing, because this function keeps no record of an experiment")
	}
	return f.Env.Err()
}

// serve is Serve without the process: it serves until ctx ends, and returns errors.
func (f *Function) serve(ctx context.Context, handler http.Handler, needs []Dependency) error {
	log := f.Telemetry.Log
	listener, err := net.Listen("tcp", net.JoinHostPort(f.host, strconv.Itoa(f.port)))
	if err != nil {
		return fmt.Errorf("listen on PORT: %w", err)
	}
	metrics, err := f.serveMetrics()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	f.Telemetry.Start()

	server := newServer(handler, log)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	jobs, stopJobs := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, j := range f.jobs {
		running.Go(func() { f.run(jobs, j) })
	}
	if f.faults != (faults{}) {
		log.Warn().Str("faults", f.Env.String("FAULTS", "")).Msg("FAULTS is set: authenticated requests fail and wait on purpose")
	}
	log.Info().Str("configuration", f.configuration).Str("address", listener.Addr().String()).Msg("listening")

	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info().Msg("draining")
		err = f.stop(context.WithoutCancel(ctx), server, listener)
	}
	stopJobs()
	running.Wait()
	if f.latencies != nil {
		if err := f.latencies.flush(context.WithoutCancel(ctx)); err != nil {
			log.Error().Err(err).Msg("the last latencies are lost")
		}
	}
	for _, need := range needs {
		need.Close()
	}
	if metrics != nil {
		err = errors.Join(err, metrics.Close())
	}
	f.Telemetry.Close()
	return err
}

// stop takes no new connections. It answers requests on open connections for lameDuck. Then it waits for running requests, and for
// connections that another protocol has taken over. It cuts the connections that are left at the limit.
func (f *Function) stop(ctx context.Context, server *http.Server, listener net.Listener) error {
	f.drain.begun.Store(true)
	f.upgrades.refuse()
	if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	time.Sleep(lameDuck)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.drain.limit, drainLimit)-lameDuck)
	defer cancel()
	err := server.Shutdown(ctx)
	if cut := f.upgrades.wait(ctx); cut > 0 {
		f.Telemetry.Log.Info().Int("connections", cut).Msg("connections of other protocols were cut at the end of the drain")
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return errors.Join(fmt.Errorf("drain: %w", err), server.Close())
	}
	return nil
}

// serveMetrics listens on METRICS_PORT. The metrics have a port of their own, because Knative counts requests to the serving port
// as traffic and would never scale a scraped function to zero.
func (f *Function) serveMetrics() (*http.Server, error) {
	if f.metricsPort == 0 {
		return nil, nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(f.host, strconv.Itoa(f.metricsPort)))
	if err != nil {
		return nil, fmt.Errorf("listen on METRICS_PORT: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", f.Telemetry.Metrics())
	server := newServer(mux, f.Telemetry.Log)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			f.Telemetry.Log.Error().Err(err).Msg("metrics")
		}
	}()
	return server, nil
}

func newServer(handler http.Handler, log zerolog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          newServerLog(log),
	}
}
