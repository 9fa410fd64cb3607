package function

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/problem"
)

// probeTimeout limits one check of all dependencies. It is shorter than the probe's timeout in the manifests.
const probeTimeout = time.Second

// probes answers /healthz and /readyz. It writes no access line, because Knative asks every few seconds.
type probes struct {
	needs   []Dependency
	log     zerolog.Logger
	latched atomic.Bool
	logged  atomic.Pointer[string] // the last reason that was logged
}

// getOnly refuses methods other than GET and HEAD, in the same words as every other path.
func getOnly(probe http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			p := problem.WrongMethod.Detail("%s takes GET and HEAD, not %s", r.URL.Path, r.Method)
			p.Allow = "GET, HEAD"
			problem.Write(w, p, "")
			return
		}
		probe(w, r)
	}
}

// health answers Knative's probe. Once all dependencies were ready, it stays 200. Otherwise a database that goes away later would
// take every pod out of service at the same time, and nothing would answer 503 to clients.
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

// ready answers with the present state, for people.
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

// fail answers 503 without the reason. It logs the reason only if it differs from the last one.
func (p *probes) fail(w http.ResponseWriter, err error) {
	reason := err.Error()
	if last := p.logged.Swap(&reason); last == nil || *last != reason {
		p.log.Warn().Err(err).Msg("not ready")
	}
	problem.Write(w, problem.Unavailable.Detail("not ready").Because(err), "")
}

func ok(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n")) // a probe that has gone away needs no answer
}
