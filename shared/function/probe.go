package function

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/problem"
)

// probeTimeout bounds one look at all dependencies, under the probe's own timeout in the manifests.
const probeTimeout = time.Second

// probes answers /healthz and /readyz. They write no access line: Knative asks every few seconds, for ever.
type probes struct {
	needs   []Dependency
	log     zerolog.Logger
	latched atomic.Bool
	said    atomic.Pointer[string] // the last reason logged
}

// getOnly refuses other methods than a probe has, as every other path does.
func getOnly(probe http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			p := problem.WrongMethod.Detail("%s takes GET, HEAD, not %s", r.URL.Path, r.Method)
			p.Allow = "GET, HEAD"
			problem.Write(w, p, "")
			return
		}
		probe(w, r)
	}
}

// health is what Knative probes. It latches: once everything was there it stays 200, because a database that goes
// away later would otherwise take every pod out at once, and with them the 503 that says so.
func (p *probes) health(w http.ResponseWriter, r *http.Request) {
	if !p.latched.Load() {
		if err := p.check(r.Context()); err != nil {
			p.fail(w, err)
			return
		}
		p.latched.Store(true)
	}
	ok(w)
}

// ready tells people the present state.
func (p *probes) ready(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r.Context()); err != nil {
		p.fail(w, err)
		return
	}
	ok(w)
}

func (p *probes) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, need := range p.needs {
		if err := need.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fail logs the reason once for as long as it stays the same, and keeps it out of the answer.
func (p *probes) fail(w http.ResponseWriter, err error) {
	reason := err.Error()
	if last := p.said.Swap(&reason); last == nil || *last != reason {
		p.log.Warn().Err(err).Msg("not ready")
	}
	problem.Write(w, problem.Unavailable.Detail("not ready").Because(err), "")
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n")) // a probe that has gone away needs no answer
}
