package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"warble/shared/env"
	"warble/shared/telemetry"
)

// Sink delivers an event. nil means that the receiver has stored it; an error, that the receiver may have stored it.
type Sink func(context.Context, event.Event) error

// SinkFromEnv reads K_SINK, the URL to which events are posted. If it is not set, as in a local run, each event is logged in one
// line and counts as delivered.
func SinkFromEnv(e *env.Reader, t *telemetry.Telemetry) Sink {
	const expected = "the URL that takes CloudEvents, such as http://broker-ingress.knative-eventing.svc.cluster.local/warble/events"
	text := e.String("K_SINK", "")
	if text == "" {
		return logSink(t)
	}
	target, err := url.Parse(text)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		e.Reject("K_SINK", text, expected)
		return nil
	}
	return httpSink(target, t)
}

func logSink(t *telemetry.Telemetry) Sink {
	return func(_ context.Context, e event.Event) error {
		line, err := e.MarshalJSON()
		if err != nil {
			return err
		}
		t.Log.Info().RawJSON("event", line).Msg("no K_SINK: event")
		return nil
	}
}

const (
	// parallel is how many requests to the sink are in progress at most.
	parallel       = 32
	connectTimeout = 2 * time.Second
	// sendTimeout limits one request, from connecting to the end of the answer.
	sendTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read. After a longer answer the connection is closed.
	maxAnswer = 4 << 10
)

// httpSink posts events in HTTP's binary mode. It has its own client, because the SDK's has no timeout and follows redirects. A
// redirect is not a delivery: after a 302 the client would GET a login page, and take the page's 200 for success.
func httpSink(target *url.URL, t *telemetry.Telemetry) Sink {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: connectTimeout}).DialContext
	transport.MaxIdleConnsPerHost = parallel
	client := &http.Client{
		Transport:     t.Transport(transport),
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, e event.Event) (err error) {
		traceparent, _ := e.Extensions()["traceparent"].(string) // empty if there is none
		ctx, done := t.Send(ctx, e.Type(), traceparent)
		defer func() { done(err) }()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
		if err != nil {
			return err
		}
		if err := cehttp.WriteRequest(ctx, (*binding.EventMessage)(&e), request); err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close() //nolint:errcheck // the answer has been read
		// Reading to the end lets the connection be used again.
		said, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if answer.StatusCode/100 == 2 {
			return nil
		}
		return &refusal{answer.StatusCode, strings.TrimSpace(string(said)), retryAfter(answer.Header)}
	}
}

// refusal is an answer of the sink other than 2xx.
type refusal struct {
	status     int
	text       string
	retryAfter time.Duration // the wait that the sink asked for; 0 for none
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the sink answered %d %s: %.200q", r.status, http.StatusText(r.status), r.text)
}

// permanent reports whether the sink will never take this event, as opposed to taking no event now.
//
// Knative treats every 4xx except 404, 408, 409 and 429 as permanent. This function is stricter: 401, 403, 405 and 410 mean a wrong
// setup of the sink, and giving up then would make the whole outbox dead letters.
func (r *refusal) permanent() bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// maxRetryAfter is the longest wait that a sink may ask of a user's events.
const maxRetryAfter = 10 * time.Minute

// retryAfter reads seconds. It ignores the header's other form, a date, because two clocks may differ.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
