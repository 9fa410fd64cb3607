package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/rs/zerolog"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
)

const (
	// eventType is that of the events that ask for mail.
	eventType = "dev.warble.mail.requested.v1"
	// sendTimeout bounds one try. A request is claimed for a minute, and Knative ends a call after half of one.
	sendTimeout = 20 * time.Second
)

// New returns the routes of mail. A nil send is no mail: what is asked for is counted, and not sent.
func New(db *store.DB, send Sender, t *telemetry.Telemetry) function.Routes {
	m := &mailer{db: db, send: send, log: t.Log, mails: t.Counter("mails_total",
		"Mails asked for, by kind and by what came of them: sent; refused, where the recipient's server will never take it; failed, to be tried again; unsent, where there is no SMTP_URL.",
		"kind", "outcome")}
	return function.Routes{"POST /": http.HandlerFunc(m.event)}
}

type mailer struct {
	db    *store.DB
	send  Sender // nil for none
	log   zerolog.Logger
	mails *telemetry.Counter
}

// event takes a CloudEvent. Its answer has no body, for that would be taken for an event. A 4xx has the broker give the event
// up; a 503 has it try again.
func (m *mailer) event(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	request, err := requested(r)
	if err == nil {
		err = m.deliver(r.Context(), request)
	}
	if err != nil {
		function.Fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// requested is the number of the request of mail that a CloudEvent names.
func requested(r *http.Request) (int64, error) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return 0, problem.Malformed.Detail("expected a CloudEvent, as relay publishes it").Because(err)
	}
	if e.Type() != eventType {
		return 0, problem.Invalid.Detail("the event is of the type %s: expected %s", e.Type(), eventType)
	}
	return requestOf(e)
}

func requestOf(e *event.Event) (int64, error) {
	var data struct {
		ID string `json:"id"`
	}
	if err := e.DataAs(&data); err != nil {
		return 0, problem.Malformed.Detail("data must be JSON with the request's id").Because(err)
	}
	id, err := function.ParseID(data.ID)
	if err != nil {
		return 0, problem.Invalid.Detail("data.id must be the decimal number of a request")
	}
	return id, nil
}

// deliver sends the mail of a request, unless it was sent. The row of a request is written with its event and there is one
// event of it, so that the row tells an event that comes again. A mail comes twice where the process, or the connection,
// ends between the server's having it and the database's hearing of it; both its tokens count then.
func (m *mailer) deliver(ctx context.Context, request int64) error {
	secret, hash := token.NewMailed()
	job, send, err := m.db.BeginMail(ctx, request, hash)
	if err != nil || !send {
		return err
	}
	kind := string(job.Kind)
	if m.send == nil {
		m.mails.Inc(kind, "unsent")
		m.log.Warn().Int64("request", request).Msg("SMTP_URL is not set: a mail was asked for and is not sent")
		return m.db.FinishMail(ctx, request, false)
	}
	// A broker that hangs up does not break a mail off, or it might have been sent.
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	switch err := m.send(sending, Mail{Request: request, Kind: job.Kind, To: job.Email, Token: secret}); {
	case err == nil:
		m.mails.Inc(kind, "sent")
		return m.db.FinishMail(ctx, request, true)
	case errors.Is(err, errRefused):
		m.mails.Inc(kind, "refused")
		m.log.Warn().Int64("request", request).Err(err).Msg("a mail was refused for good")
		return m.db.FinishMail(ctx, request, false)
	default:
		m.mails.Inc(kind, "failed")
		if released := m.db.ReleaseMail(ctx, request); released != nil { // the claim ends by itself
			err = errors.Join(err, released)
		}
		return problem.Unavailable.Because(err)
	}
}
