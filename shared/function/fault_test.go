package function

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/token"
)

// The shares must be right within five standard errors, which chance exceeds once in a million.
func TestFaultsHitTheirShareOfRequests(t *testing.T) {
	t.Parallel()
	const n = 20_000
	f := NewTest(io.Discard, "FAULTS=error=5%,slow=1ns@10%").faults
	failed := 0
	for range n {
		if f.strike(t.Context()) != nil {
			failed++
		}
	}
	if share, most := float64(failed)/n, 5*math.Sqrt(.05*.95/n); math.Abs(share-.05) > most {
		t.Errorf("%g failed, want 0.05 within %g", share, most)
	}
	if err := (faults{}).strike(t.Context()); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (faults{slow: 1, delay: time.Hour}).strike(gone); err != nil { // it returns at all
		t.Error(err)
	}
}

// A fault looks like a bug in the handler: the exposure is recorded, the answer is a 500, and the arm's latency counts it.
func TestFaultsLookLikeBugsOfTheArm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, faultsAreTheArms)
}

func faultsAreTheArms(t *testing.T) {
	folder := t.TempDir()
	private, public := filepath.Join(folder, "private.pem"), filepath.Join(folder, "jwks.json")
	if err := token.NewKeyPair(private, public); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"TOKEN_PRIVATE_KEY_FILE": private, "TOKEN_PUBLIC_KEYS_FILE": public}
	e := env.New(func(name string) (string, bool) { value, ok := files[name]; return value, ok })
	issuer, tokens := token.IssuerFromEnv(e), token.VerifierFromEnv(e)
	bearer, _, err := issuer.Issue(token.Subject{UserID: 7, Username: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	var r recorder
	f := NewTest(io.Discard, "WARBLE_EXPERIMENT=likes", "WARBLE_ARM=control", "FAULTS=error=100%,slow=60ms@100%")
	f.RecordLatencies(r.record)
	exposed, handled := 0, false
	user := Authenticated(tokens, nil, func(context.Context, experiment.Exposure) error { exposed++; return nil })
	handler := f.Handler(Routes{
		"GET /x": user(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled = true })),
	})
	ask := func(authorization string) (status int, kind string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)
		request.Header.Set("Authorization", authorization)
		request.Header.Set(HeaderClient, "192.0.2.1")
		request.Header.Set(experiment.Header, experiment.Assignment{
			Experiment: "likes", Arm: experiment.Control, Kind: experiment.User, Unit: "7", Exposes: true,
		}.String())
		Sign(request, TestKey, time.Now())
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		var body struct{ Type string }
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
			t.Error(err)
		}
		return answer.Code, body.Type
	}
	if status, kind := ask("Bearer " + bearer); status != http.StatusInternalServerError || kind != problem.Internal.Type() || exposed != 1 || handled {
		t.Errorf("%d %s, %d exposures, handled: %t", status, kind, exposed, handled)
	}
	if status, _ := ask("Bearer x"); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", status)
	}
	if err := f.latencies.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	slow, quick := 0, 0
	for _, buckets := range r.kept {
		for i, n := range buckets {
			if i == 0 {
				quick += int(n)
			} else if experiment.LatencyBounds[i-1] < 60 && 60 <= experiment.LatencyBounds[i] {
				slow += int(n)
			} else if n > 0 {
				t.Errorf("%d in bucket %d", n, i)
			}
		}
	}
	if slow != 1 || quick != 1 {
		t.Errorf("%d slow and %d quick requests, want the one that was struck and the one that was not", slow, quick)
	}
}
