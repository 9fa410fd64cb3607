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
	// eventType is the type of the events that request mail.
	eventType = "dev.warble.mail.requested.v1"
	// sendTimeout limits one attempt. A request is claimed for a minute, and Knative ends a call after half a minute.
	sendTimeout = 20 * time.Second
)

// New returns the routes of mail. If send is nil, requests are counted and no mail is sent.
func New(db *store.DB, send Sender, t *telemetry.Telemetry) function.Routes {
	m := &mailer{db: db, send: send, log: t.Log, mails: t.Counter("mails_total",
		"Requested mails by kind and outcome: sent; refused, if the recipient's server will never take it; failed, if it is tried again; unsent, without SMTP_URL.",
		"kind", "outcome")}
	return function.Routes{"POST /": http.HandlerFunc(m.serveEvent)}
}

type mailer struct {
	db    *store.DB
	send  Sender // nil: no mail is sent
	log   zerolog.Logger
	mails *telemetry.Counter
}

// serveEvent takes a CloudEvent. The answer has no body, because a body would be taken for an event. After a 4xx the broker gives
// the event up; after a 503 it tries again.
func (m *mailer) serveEvent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	request, err := requestID(r)
	if err == nil {
		err = m.deliver(r.Context(), request)
	}
	if err != nil {
		function.Fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// requestID returns the number of the request for mail that a CloudEvent names.
func requestID(r *http.Request) (int64, error) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		return 0, problem.Malformed.Detail("expected a CloudEvent such as relay publishes").Because(err)
	}
	if e.Type() != eventType {
		return 0, problem.Invalid.Detail("the event is of the type %s: expected %s", e.Type(), eventType)
	}
	return requestInEvent(e)
}

func requestInEvent(e *event.Event) (int64, error) {
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

// deliver sends the mail of a request, unless it was sent before. A request's row is written together with its only event, so the
// row shows whether an event arrives again. A mail is sent twice if the process or the connection ends after the server has taken
// the mail and before the database knows. Then the tokens of both mails are valid.
func (m *mailer) deliver(ctx context.Context, request int64) error {
	secret, hash := token.NewMailed()
	job, send, err := m.db.BeginMail(ctx, request, hash)
	if err != nil || !send {
		return err
	}
	kind := string(job.Kind)
	if m.send == nil {
		m.mails.Inc(kind, "unsent")
		m.log.Warn().Int64("request", request).Msg("SMTP_URL is not set: a requested mail is not sent")
		return m.db.FinishMail(ctx, request, false)
	}
	// A broker that hangs up does not interrupt the sending, because then nobody would know whether the mail was sent.
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	switch err := m.send(sending, Mail{Request: request, Kind: job.Kind, To: job.Email, Token: secret}); {
	case err == nil:
		m.mails.Inc(kind, "sent")
		return m.db.FinishMail(ctx, request, true)
	case errors.Is(err, errRefused):
		m.mails.Inc(kind, "refused")
		m.log.Warn().Int64("request", request).Err(err).Msg("a mail was refused permanently")
		return m.db.FinishMail(ctx, request, false)
	default:
		m.mails.Inc(kind, "failed")
		if released := m.db.ReleaseMail(ctx, request); released != nil { // without this, the claim ends after a minute
			err = errors.Join(err, released)
		}
		return problem.Unavailable.Because(err)
	}
}
