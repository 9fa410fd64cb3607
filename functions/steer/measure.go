package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
)

const (
	maxEvent = 1 << 20 // bytes; a Broker accepts no larger event either
	// learnAgain is the shortest time between two requests to the cluster for unknown metrics.
	learnAgain = 5 * time.Second
)

// measure takes an event that a Trigger sends for the metrics of its type. A Broker repeats an event that was answered 404, 429 or
// 5xx, and sends it to the dead letter sink after any other refusal. So a 422 means that the event will never fit, and a 404 that
// its metric may be created later. The event is stored for each metric that it fits, even if it does not fit another.
func (s *steer) measure(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxEvent)
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		s.eventsTotal.Inc("refused")
		function.Fail(w, r, problem.Malformed.Detail("expected a CloudEvent of at most %d bytes: %v", maxEvent, err))
		return
	}
	if err := s.record(r.Context(), e); err != nil {
		outcome, refused := "failed", problem.From(err)
		switch {
		case errors.Is(err, problem.NotFound):
			outcome = "unknown"
		case refused.Status < http.StatusInternalServerError:
			outcome = "refused"
		}
		s.eventsTotal.Inc(outcome)
		s.log.Warn().Str("event_source", e.Source()).Str("event_id", e.ID()).Str("event_type", e.Type()).Str("outcome", outcome).Msg(refused.Detail)
		function.Fail(w, r, err)
		return
	}
	s.eventsTotal.Inc("taken")
	w.WriteHeader(http.StatusAccepted)
}

// record stores the values in an event. Its errors are problems.
func (s *steer) record(ctx context.Context, e *event.Event) error {
	metrics, err := s.metricsOf(ctx, e.Type())
	switch {
	case err != nil:
		return err
	case len(metrics) == 0:
		return problem.NotFound.Detail("no Metric and no running experiment reads events of type %q: create the Metric, or delete the Trigger that sends them", e.Type())
	}
	if err := checkTime(e.Time(), time.Now()); err != nil {
		return err
	}
	var data []byte
	if media := e.DataMediaType(); media == event.ApplicationJSON || strings.HasSuffix(media, "+json") || media == "" {
		data = e.Data()
	}
	var values []store.MetricEvent
	var wrong []*experiment.PayloadError
	for _, m := range metrics {
		found, err := m.Read(e.Subject(), data)
		if misfit, ok := errors.AsType[*experiment.PayloadError](err); ok {
			wrong = append(wrong, misfit)
			continue
		} else if err != nil {
			return err
		}
		values = append(values, store.MetricEvent{Metric: m, Occurrence: found})
	}
	if err := s.db.RecordEvent(ctx, e.Source(), e.ID(), e.Time(), values); err != nil || len(wrong) == 0 {
		return err
	}
	var lines []string
	for _, misfit := range wrong {
		lines = append(lines, misfit.Error())
	}
	refusal := problem.Invalid.Detail("%s", strings.Join(lines, "; "))
	for _, misfit := range wrong {
		refusal = refusal.WithField(misfit.Field, "%s", misfit.Error())
	}
	return refusal
}

// metricsOf returns the metrics of a type of events. If the database has none, it asks the cluster, because the first events may
// arrive before a new Metric is stored.
func (s *steer) metricsOf(ctx context.Context, kind string) ([]experiment.Metric, error) {
	metrics, err := s.db.MetricsOf(ctx, kind)
	if err != nil || len(metrics) > 0 || s.driver == nil {
		return metrics, err
	}
	now, last := time.Now().Unix(), s.lastLearned.Load()
	if now-last < int64(learnAgain/time.Second) || !s.lastLearned.CompareAndSwap(last, now) {
		return nil, nil
	}
	if err := s.driver.SyncMetrics(ctx); err != nil {
		return nil, problem.Unavailable.Because(err)
	}
	return s.db.MetricsOf(ctx, kind)
}

// checkTime returns what is wrong with the time of an event.
func checkTime(at, now time.Time) error {
	switch {
	case at.IsZero():
		return problem.Invalid.Field("time", "time: missing: expected when the event happened, because a unit's window includes events by their time")
	case at.After(now.Add(experiment.MostAhead)):
		return problem.Invalid.Field("time", "time: %s: expected the past, or at most %s in the future", at.Format(time.RFC3339), experiment.MostAhead)
	case at.Before(now.AddDate(0, 0, -store.EventsKept)):
		return problem.Invalid.Field("time", "time: %s: expected a time in the last %d days, because older events are deleted", at.Format(time.RFC3339), store.EventsKept)
	}
	return nil
}
