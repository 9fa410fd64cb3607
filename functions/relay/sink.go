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

// Sink takes an event. nil means that it has it, for good; an error, that it may have it.
type Sink func(context.Context, event.Event) error

// SinkFromEnv reads K_SINK, the URL that events are posted to. Without it, as in a local run, events are logged, one line
// each, and count as delivered.
func SinkFromEnv(e *env.Reader, t *telemetry.Telemetry) Sink {
	const expected = "the URL that takes CloudEvents, as http://broker-ingress.knative-eventing.svc.cluster.local/warble/events"
	text := e.String("K_SINK", "")
	if text == "" {
		return logged(t)
	}
	target, err := url.Parse(text)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		e.Reject("K_SINK", text, expected)
		return nil
	}
	return posted(target, t)
}

func logged(t *telemetry.Telemetry) Sink {
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
	// parallel is how many requests are on their way to the sink at once.
	parallel       = 32
	connectTimeout = 2 * time.Second
	// sendTimeout bounds one of them, from connecting to the end of the answer.
	sendTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read. More than that closes the connection.
	maxAnswer = 4 << 10
)

// posted posts in HTTP's binary mode, by a client of its own: the SDK's has no timeout, and follows redirects. A redirect
// is no delivery: followed, a 302 would become a GET of someone's login page, and its 200 the event's end.
func posted(target *url.URL, t *telemetry.Telemetry) Sink {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: connectTimeout}).DialContext
	transport.MaxIdleConnsPerHost = parallel
	client := &http.Client{
		Transport:     t.Transport(transport),
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, e event.Event) (err error) {
		traceparent, _ := e.Extensions()["traceparent"].(string) // empty where there is none
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
		defer answer.Body.Close() //nolint:errcheck // what it said has been read
		// Read even where nobody cares, for the connection to be used again.
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
	said       string
	retryAfter time.Duration // what it asked for; 0 for nothing
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the sink answered %d %s: %.200q", r.status, http.StatusText(r.status), r.said)
}

// permanent reports whether the sink has said that it will never take this event, as opposed to any event, now.
//
// Knative calls every 4xx but 404, 408, 409 and 429 permanent. This asks more of an answer: 401, 403, 405 or 410 speak of
// a sink that is set up wrongly, and giving up at once would empty the whole outbox into the dead letters.
func (r *refusal) permanent() bool {
	switch r.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// maxRetryAfter is the longest that a sink may ask a user's events to wait.
const maxRetryAfter = 10 * time.Minute

// retryAfter reads seconds; the header's other form, a date, is not worth trusting two clocks.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
