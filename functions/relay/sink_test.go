package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"warble/shared/env"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func newEvent(t *testing.T) event.Event {
	t.Helper()
	e, err := cloudEvent(store.Event{ID: 1, Type: "t", Data: []byte(`{"id": "7"}`), CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestWhichAnswersOfTheSinkAreFinal(t *testing.T) {
	t.Parallel()
	const delivered, again, never = "delivered", "again", "never"
	var status atomic.Int32
	var visits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits.Add(1)
		w.Header().Set("Location", "/login")
		w.Header().Set("Retry-After", "90")
		if r.URL.Path != "/login" {
			w.WriteHeader(int(status.Load()))
		}
	}))
	t.Cleanup(server.Close)
	send := (&subscriber{Server: server}).sink(t, function.NewTest(t.Output()).Telemetry)
	for code, want := range map[int32]string{
		200: delivered, 202: delivered, 204: delivered,
		302: again, 307: again, 401: again, 403: again, 404: again, 405: again, 408: again, 409: again, 410: again, 425: again, 429: again,
		500: again, 502: again, 503: again, 504: again,
		400: never, 413: never, 415: never, 422: never,
	} {
		status.Store(code)
		visits.Store(0)
		err := send(t.Context(), newEvent(t))
		got := again
		refused, is := errors.AsType[*refusal](err)
		switch {
		case err == nil:
			got = delivered
		case is && refused.permanent():
			got = never
		}
		if got != want || visits.Load() != 1 {
			t.Errorf("%d: %s after %d requests, want %s after 1: %v", code, got, visits.Load(), want, err)
		}
		if err != nil && backoff(err, 1) != 90*time.Second {
			t.Errorf("%d: Retry-After: 90 makes it wait %s", code, backoff(err, 1))
		}
	}
	server.Close()
	if err := send(t.Context(), newEvent(t)); err == nil {
		t.Error("a sink that is not there has taken an event")
	}
}

// An event that the sink calls invalid, or that cannot become a CloudEvent, is a dead letter immediately.
func TestAnEventThatCanNeverArriveIsADeadLetterImmediately(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(e event.Event) int {
		if e.ID() == "1000001" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	f.writeEvents(2, 2)
	f.exec(`update outbox set type = '' where id = 1000002`)
	run(t, f.relay())
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	for id, reason := range map[int]string{1000001: "400 Bad Request", 1000002: "type: "} {
		if !f.isTrue(fmt.Sprintf(`(select count(*) = 1 from dead_letters where id = %d and reason like '%%%s%%')`, id, reason)) {
			t.Errorf("event %d is no dead letter for its %s", id, reason)
		}
	}
	if ids := f.ids(); len(ids["4194304"]) != 1 || len(ids["8388608"]) != 1 {
		t.Errorf("arrived: %v", ids)
	}
}

func TestWithoutASinkEventsAreLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := function.NewTest(&log)
	if err := SinkFromEnv(f.Env, f.Telemetry)(t.Context(), newEvent(t)); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Event struct {
			ID, Type string
			Data     map[string]string
		}
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line.Event.ID != "1" || line.Event.Type != "t" || line.Event.Data["id"] != "7" || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("%v in %q", err, log.String())
	}
}

func TestAWrongSinkIsNamed(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"broker", "ftp://broker/x", "http://", "http://a b", ":"} {
		e := env.New(func(string) (string, bool) { return wrong, true })
		SinkFromEnv(e, function.NewTest(t.Output()).Telemetry)
		if err := e.Err(); err == nil || !strings.Contains(err.Error(), "K_SINK") || !strings.Contains(err.Error(), "expected the URL") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// The log and the dead letters quote the sink's answer, which may contain anything and be of any length.
func TestALongAnswerIsCut(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(bytes.Repeat([]byte("a\x00"), 1<<20))
	}))
	t.Cleanup(server.Close)
	err := (&subscriber{Server: server}).sink(t, function.NewTest(t.Output()).Telemetry)(t.Context(), newEvent(t))
	if err == nil || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "418") {
		t.Errorf("%v", err)
	}
	d := pgtest.New(t)
	if err := d.Open(t, pgtest.Ops).BuryEvent(t.Context(), 1, err.Error()); err != nil { // PostgreSQL cannot store NUL
		t.Error(err)
	}
}
