package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warble/shared/experiment"
	"warble/shared/problem"
)

// TestTheUntouchedFunctionAnswersForAnArmThatFails checks that the untouched function answers once if that is safe, and that
// nothing with a possible effect is done twice.
func TestTheUntouchedFunctionAnswersForAnArmThatFails(t *testing.T) {
	t.Parallel()
	var done atomic.Int64 // by the arm and the untouched function
	arm := serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/x/gone": // as an ingress answers
			http.NotFound(w, r)
		case "/x/none": // as a function answers
			problem.Write(w, problem.NotFound.Detail("no such tweet"), "1")
		case "/x/own":
			problem.Write(w, problem.Unavailable.Detail("my database is away"), "1")
		case "/x/proxy":
			done.Add(1)
			http.Error(w, "the activator's words", http.StatusServiceUnavailable)
		case "/x/cut":
			done.Add(1)
			panic(http.ErrAbortHandler)
		case "/x/slow":
			done.Add(1)
			<-r.Context().Done()
		}
	}))
	untouched := serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { done.Add(1); w.WriteHeader(http.StatusTeapot) }))
	edge := start(t, config{steerURL: "http://nobody.example", upstreamTimeout: 6 * time.Second})
	rules := openTo("likes", experiment.User, "x")
	rules.Reach["x"] = experiment.Reach{Control: sideAt(arm, "control"), Treatment: sideAt(arm, "treatment")}
	edge.writeExperiments(t, []experiment.Rules{rules}, functionEntry{Name: "x", URL: untouched, Routes: []string{"/x/"}})
	for name, tt := range map[string]struct {
		method, path, key string
		status            int
		done              int64
	}{
		"a GET, where a proxy answers":              {"GET", "/x/proxy", "", 418, 2},
		"a HEAD":                                    {"HEAD", "/x/proxy", "", 418, 2},
		"a POST, where a proxy answers":             {"POST", "/x/proxy", "", 503, 1},
		"a POST with a key":                         {"POST", "/x/proxy", "k1", 418, 2},
		"a host that is gone, with a POST":          {"POST", "/x/gone", "", 418, 1},
		"a GET that is cut":                         {"GET", "/x/cut", "", 418, 2},
		"a POST that is cut: who knows":             {"POST", "/x/cut", "", 503, 1},
		"a GET that takes half of the time":         {"GET", "/x/slow", "", 418, 2},
		"a POST that takes half of the time":        {"POST", "/x/slow", "", 503, 1},
		"a function's own 404":                      {"GET", "/x/none", "", 404, 0},
		"a function that says its database is away": {"GET", "/x/own", "", 503, 0},
	} {
		done.Store(0)
		headers := []string{"Authorization", edge.bearer(t, 1)}
		if tt.key != "" {
			headers = append(headers, "Idempotency-Key", tt.key)
		}
		a := send(t, tt.method, edge.url+tt.path, "", headers...)
		if a.StatusCode != tt.status || a.Header.Get(headerExperiment) != "likes" {
			t.Errorf("%s: %d, want %d", name, a.StatusCode, tt.status)
		}
		if got := done.Load(); got != tt.done && !(got > tt.done && tt.path == "/x/cut" && tt.method == "GET") { // net/http itself sends a GET again
			t.Errorf("%s: it was done %d times, want %d", name, got, tt.done)
		}
	}
}

// TestASuspendedExperimentSendsNobodyToItsArms checks that users and the untouched function still receive the assignment. So it is
// recorded who was not served their own arm.
func TestASuspendedExperimentSendsNobodyToItsArms(t *testing.T) {
	t.Parallel()
	edge := start(t, config{steerURL: "http://nobody.example"})
	rules := openTo("likes", experiment.User, "mirror")
	service := serveArms(t, &rules)
	broken := serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, problem.Internal.Detail("oh"), "1") }))
	reach := rules.Reach["mirror"]
	reach.Treatment = sideAt(broken, "treatment")
	rules.Reach["mirror"] = reach
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	failed := 0
	for id := int64(1); id <= 60; id++ {
		a := send(t, http.MethodGet, edge.url+"/m/x", "", "Authorization", edge.bearer(t, id))
		if a.StatusCode == http.StatusInternalServerError {
			failed++
		}
		edge.log.line(t, a.Header.Get("X-Request-Id"))
	}
	if failed < 8 || failed > 12 {
		t.Errorf("%d answers failed before it was suspended, want 8 to 12", failed)
	}
	for id := int64(1); id <= 10; id++ {
		a := send(t, http.MethodGet, edge.url+"/m/x", "", "Authorization", edge.bearer(t, id))
		arm := armOf(rules, id, "")
		if told := a.seen(t).Header.Get(experiment.Header); a.Header.Get(headerRevision) != "untouched" || a.Header.Get(headerVariant) != string(arm) || !strings.HasPrefix(told, "likes="+string(arm)+";") {
			t.Errorf("user %d: %v, and the function is told %q", id, a.Header, told)
		}
	}
}

// delayed is an answer, or an error, after some time.
type delayed struct {
	after time.Duration
	err   error
}

// TestTheWaitEndsWithTheHeadersOfTheAnswer checks that the wait does not include the body. If the arm fails, the wait includes the
// untouched Service's.
func TestTheWaitEndsWithTheHeadersOfTheAnswer(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	for name, tt := range map[string]struct {
		method string
		takes  []delayed
		want   time.Duration
	}{
		"an answer":                        {http.MethodGet, []delayed{{time.Second, nil}}, time.Second},
		"an arm that fails":                {http.MethodGet, []delayed{{time.Second, cut}, {2 * time.Second, nil}}, 3 * time.Second},
		"a failure that is passed on":      {http.MethodPost, []delayed{{time.Second, cut}}, time.Second},
		"an arm that takes half of it all": {http.MethodGet, []delayed{{time.Hour, nil}, {time.Second, nil}}, 31 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &passage{toArm: true, arm: new(routedArm), untouched: &url.URL{Host: "untouched"}, until: time.Now().Add(time.Minute)}
				s := armFallback{roundTrip(func(r *http.Request) (*http.Response, error) {
					next := tt.takes[0]
					tt.takes = tt.takes[1:]
					select {
					case <-time.After(next.after):
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
					if next.err != nil {
						return nil, next.err
					}
					return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
				})}
				r, err := http.NewRequestWithContext(context.WithValue(t.Context(), passageKey{}, p), tt.method, "http://arm/x", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := s.RoundTrip(r)
				time.Sleep(time.Minute) // the time that the body takes
				if err == nil {
					_ = answer.Body.Close()
				}
				if p.waited != tt.want {
					t.Errorf("%s, want %s", p.waited, tt.want)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
