// Package function turns an http.Handler into a Knative function: the runtime contract, done once.
//
// A function's main reads as
//
//	f := function.New()
//	db := store.FromEnv(f.Env, f.Telemetry)
//	tokens := token.VerifierFromEnv(f.Env)
//	f.Serve(New(db, tokens), db, tokens)
//
// The order of events for one request is that of the file request.go: exchange, access line, panic, body limit, routing;
// then, per route, Authenticated and JSON.
package function

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/telemetry"
)

// Function is one process that serves one Knative Service. Make it with New, or with NewTest in tests.
type Function struct {
	Env       *env.Reader
	Telemetry *telemetry.Telemetry

	service          string     // WARBLE_SERVICE, or K_SERVICE
	configuration    string     // K_CONFIGURATION, which a process says once
	revision         string     // K_REVISION, which every answer of a function carries; empty outside of Knative
	host             string     // HOST; empty for every interface
	port             int        // PORT
	metricsPort      int        // METRICS_PORT; 0 switches it off
	signer           *Signer    // of what the edge asserts; without a key it trusts nothing
	served           served     // WARBLE_EXPERIMENT and WARBLE_ARM
	faults           faults     // FAULTS
	latencies        *latencies // of the arm; nil where the process is of none
	exposureFailures *telemetry.Counter
	jobs             []job
	drain            drain
	upgrades         upgrades
}

// Routes maps net/http patterns ("POST /2/tweets") to handlers.
type Routes map[string]http.Handler

// Dependency is what a function cannot answer without: a database, a key set, a table of routes.
type Dependency interface {
	// Ready returns nil when the dependency can serve now, and otherwise says in one line what is missing.
	Ready(ctx context.Context) error
	// Close releases it, after the last request.
	Close()
}

// New reads Knative's contract from the environment: PORT (8080), K_SERVICE, K_REVISION, K_CONFIGURATION, and ours:
// HOST (every interface), METRICS_PORT (2112), EDGE_KEY_FILE, the file whose content signs what the edge asserts,
// WARBLE_SERVICE, WARBLE_EXPERIMENT and WARBLE_ARM, control or treatment, which an experiment's revisions have, and FAULTS, a drill:
// error=5%,slow=300ms@10% has 5 percent of the authenticated requests fail, and 10 percent wait. Mistakes are kept in Env and reported by Serve, with those of whatever else reads Env meanwhile.
func New() *Function {
	e := env.FromOS()
	name := cmp.Or(e.String(experiment.EnvService, ""), e.String("K_SERVICE", ""), "function") // Knative tells an arm no K_SERVICE
	f := newFunction(e, telemetry.FromEnv(e, name, e.String("K_REVISION", name+"-local")), name)
	f.configuration = e.String("K_CONFIGURATION", name)
	f.host = e.String("HOST", "")
	f.port = e.Int("PORT", 8080, 0, 65535)
	f.metricsPort = e.Int("METRICS_PORT", 2112, 0, 65535)
	if f.metricsPort == 0 {
		f.Telemetry.CountNothing()
	}
	if file := e.String("EDGE_KEY_FILE", ""); file != "" {
		f.signer = NewSigner(readEdgeKey(e, file))
	}
	return f
}

// TestKey is the key with which a Function of NewTest expects the edge's assertions to be signed.
var TestKey = []byte("a key for tests, known to everyone")

// NewTest returns a Function for tests: no tracer, log lines to log, and for its environment the settings, such as
// "WARBLE_ARM=control".
func NewTest(log io.Writer, settings ...string) *Function {
	e := env.New(func(name string) (string, bool) {
		for _, setting := range settings {
			if value, ok := strings.CutPrefix(setting, name+"="); ok {
				return value, true
			}
		}
		return "", false
	})
	f := newFunction(e, telemetry.New("test", "test-00001", log), "test")
	f.signer = NewSigner(TestKey)
	return f
}

func newFunction(e *env.Reader, t *telemetry.Telemetry, service string) *Function {
	return &Function{
		Env:       e,
		Telemetry: t,
		service:   service,
		revision:  e.String("K_REVISION", ""),
		served:    readServed(e),
		signer:    NewSigner(nil),
		faults:    readFaults(e),
		exposureFailures: t.Counter("warble_exposure_failures_total",
			"Requests answered as the control's, for the exposure of their user could not be written."),
	}
}

// EdgeKey is the key that signs what the edge asserts; nil where EDGE_KEY_FILE is not set.
func (f *Function) EdgeKey() []byte { return f.signer.key }

// Every runs do now and then each interval while the function serves; one that returns only when its context ends runs
// once. An error is logged, and the next run is not
// affected by it. Call it before Serve.
func (f *Function) Every(interval time.Duration, name string, do func(context.Context) error) {
	f.jobs = append(f.jobs, job{interval, name, do})
}

type job struct {
	interval time.Duration
	name     string
	do       func(context.Context) error
}

func (f *Function) run(ctx context.Context, j job) {
	ticker := time.NewTicker(j.interval)
	defer ticker.Stop()
	for ctx.Err() == nil { // a tick may be due as well, and select would choose by lot
		if err := j.do(ctx); err != nil && ctx.Err() == nil {
			f.Telemetry.Log.Warn().Err(err).Str("job", j.name).Msg("background job")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// minEdgeKey is the shortest key that is worth signing with: HMAC-SHA256's own output size.
const minEdgeKey = 32

func readEdgeKey(e *env.Reader, file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		e.Reject("EDGE_KEY_FILE", file, "a readable file: "+err.Error())
		return nil
	}
	key := strings.TrimSpace(string(text))
	if len(key) < minEdgeKey {
		e.Reject("EDGE_KEY_FILE", file, "a file with a key of at least 32 bytes")
		return nil
	}
	return []byte(key)
}
