// Package function turns an http.Handler into a Knative function. It implements Knative's runtime contract in one place.
//
// The main of a function is
//
//	f := function.New()
//	db := store.FromEnv(f.Env, f.Telemetry)
//	tokens := token.VerifierFromEnv(f.Env)
//	f.Serve(New(db, tokens), db, tokens)
//
// A request passes through these steps, in the order of the file request.go: exchange, access line, panic, body limit, routing; and
// then, for each route, Authenticated and JSON.
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
	configuration    string     // K_CONFIGURATION, logged once
	revision         string     // K_REVISION, a header of every answer; empty outside of Knative
	host             string     // HOST; empty for every interface
	port             int        // PORT
	metricsPort      int        // METRICS_PORT; 0 switches it off
	signer           *Signer    // verifies what the edge asserts; without a key it trusts nothing
	served           served     // WARBLE_EXPERIMENT and WARBLE_ARM
	faults           faults     // FAULTS
	latencies        *latencies // of the arm; nil if the process belongs to no arm
	exposureFailures *telemetry.Counter
	jobs             []job
	drain            drain
	upgrades         upgrades
}

// Routes maps net/http patterns ("POST /2/tweets") to handlers.
type Routes map[string]http.Handler

// Dependency is something without which a function cannot answer: a database, a key set, a table of routes.
type Dependency interface {
	// Ready returns nil if the dependency can serve now. Otherwise the error says in one line what is missing.
	Ready(ctx context.Context) error
	// Close releases the dependency, after the last request.
	Close()
}

// New reads the environment. Knative sets PORT (8080), K_SERVICE, K_REVISION and K_CONFIGURATION. Warble has these variables:
//
//   - HOST (every interface) and METRICS_PORT (2112).
//   - EDGE_KEY_FILE, a file with the key by which the edge signs what it asserts.
//   - WARBLE_SERVICE, WARBLE_EXPERIMENT and WARBLE_ARM (control or treatment), which the revisions of an experiment have.
//   - FAULTS, for a drill: with error=5%,slow=300ms@10%, 5 percent of the authenticated requests fail, and 10 percent wait.
//
// Env collects mistakes. Serve reports them, together with the mistakes of everything else that has read Env before Serve.
func New() *Function {
	e := env.FromOS()
	name := cmp.Or(e.String(experiment.EnvService, ""), e.String("K_SERVICE", ""), "function") // Knative sets no K_SERVICE in an arm
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

// TestKey is the key that a Function of NewTest uses to verify the edge's assertions.
var TestKey = []byte("a key for tests, known to everyone")

// NewTest returns a Function for tests. It has no tracer and logs to log. Its environment has only the settings, such as
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
			"Requests served the control version, because the exposure of their user could not be recorded."),
	}
}

// EdgeKey returns the key by which the edge signs what it asserts; nil if EDGE_KEY_FILE is not set.
func (f *Function) EdgeKey() []byte { return f.signer.key }

// Every makes Serve run do, first immediately and then once each interval. A do that returns only when its context ends runs once. An
// error is logged and does not affect the next run. Call Every before Serve.
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
	for ctx.Err() == nil { // the select below is not enough: it chooses at random if a tick is due as well
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

// minEdgeKey is the shortest allowed key, in bytes: the output size of HMAC-SHA256.
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
