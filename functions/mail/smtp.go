package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/url"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"

	"warble/shared/env"
	"warble/shared/store"
	"warble/shared/telemetry"
)

// Mail is a mail to send.
type Mail struct {
	Request int64
	Kind    store.MailKind
	To      string
	Token   string
}

// Sender sends a mail. nil means that a server has taken the mail; errRefused, that no server ever will; any other error, that a
// server may have taken it.
type Sender func(context.Context, Mail) error

// errRefused means that the server refused the recipient and would do so again, for example because there is no such mailbox.
var errRefused = errors.New("the recipient was refused")

// toLog is the value of SMTP_URL in a local run.
const toLog = "log:"

// SenderFromEnv reads SMTP_URL, MAIL_FROM (the sender's address) and PUBLIC_URL. SMTP_URL is smtp://user:password@host:587
// (STARTTLS; with ?tls=none at the end no encryption) or smtps://user:password@host:465 (TLS from the start). PUBLIC_URL is the
// address at which people reach Warble. Links in mail lead there, so that no client can choose where they lead. If SMTP_URL is not
// set, SenderFromEnv returns nil, and no mail is sent. If it is log:, mail is written to the log. Readers of the log could then reset anybody's
// password, so a cluster refuses log:.
func SenderFromEnv(e *env.Reader, t *telemetry.Telemetry) Sender {
	text := e.String("SMTP_URL", "")
	if text == "" {
		return nil
	}
	from := readFrom(e)
	public := readPublic(e)
	if text == toLog {
		if e.String("KUBERNETES_SERVICE_HOST", "") != "" {
			e.Reject("SMTP_URL", text, "a server: the log of a cluster must not contain the tokens in mail")
		}
		return func(_ context.Context, m Mail) error {
			t.Log.Info().Str("to", m.To).Str("subject", subjects[m.Kind]).Str("link", link(public, m)).Msg("mail")
			return nil
		}
	}
	client, err := newClient(text)
	if err != nil {
		e.Reject("SMTP_URL", "(secret)", "smtp://user:password@host:587, smtps://user:password@host:465 or smtp://host:25?tls=none: "+err.Error())
		return nil
	}
	return func(ctx context.Context, m Mail) error {
		message, err := compose(from, public, m)
		if err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		return transmit(ctx, client, message)
	}
}

func readFrom(e *env.Reader) *netmail.Address {
	const expected = `an address in the format of RFC 5322, such as Warble <warble@example.com>`
	text := e.Required("MAIL_FROM", expected)
	if text == "" {
		return nil
	}
	from, err := netmail.ParseAddress(text)
	if err != nil {
		e.Reject("MAIL_FROM", text, expected)
	}
	return from
}

func readPublic(e *env.Reader) string {
	const expected = "the URL at which people reach Warble, such as https://warble.example.com"
	text := e.Required("PUBLIC_URL", expected)
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		e.Reject("PUBLIC_URL", text, expected)
	}
	return strings.TrimRight(text, "/")
}

// newClient makes a client for the URL of a server. It does not connect.
func newClient(text string) (func() (*mail.Client, error), error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL") // url.Parse's error would quote the password
	}
	options := []mail.Option{mail.WithTimeout(sendTimeout / 2)}
	port := u.Port()
	switch tlsMode := u.Query().Get("tls"); {
	case u.Hostname() == "":
		return nil, errors.New("no host")
	case u.Scheme == "smtps" && tlsMode == "":
		options = append(options, mail.WithSSL())
		port = orDefault(port, "465")
	case u.Scheme == "smtp" && tlsMode == "":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
		port = orDefault(port, "587")
	case u.Scheme == "smtp" && tlsMode == "none" && u.User == nil: // without encryption, a password could be read on the way
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		port = orDefault(port, "25")
	default:
		return nil, errors.New("expected the scheme smtp or smtps, and no user with ?tls=none")
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, errors.New("the port is not a number")
	}
	options = append(options, mail.WithPort(n), mail.WithTLSConfig(&tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}))
	if u.User != nil {
		password, _ := u.User.Password()
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	build := func() (*mail.Client, error) { return mail.NewClient(u.Hostname(), options...) }
	if _, err := build(); err != nil {
		return nil, err
	}
	return build, nil
}

func orDefault(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// transmit opens a new connection for each mail, because mails are rare.
func transmit(ctx context.Context, build func() (*mail.Client, error), message *mail.Msg) error {
	client, err := build()
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("SMTP_URL: %w", err)
	}
	defer client.Close() //nolint:errcheck // the server has taken or refused the mail
	return describeFailure(client.Send(message))
}

// describeFailure describes a server's answer without the mail address that its text may contain.
func describeFailure(err error) error {
	var refusal *mail.SendError
	if !errors.As(err, &refusal) {
		return err
	}
	answer := fmt.Errorf("SMTP_URL: %s: the server answered %d %s", refusal.Reason, refusal.ErrorCode(), refusal.EnhancedStatusCode())
	if refusal.Reason == mail.ErrSMTPRcptTo && !refusal.IsTemp() && refusal.ErrorCode() >= 500 {
		return fmt.Errorf("%w: %w", errRefused, answer)
	}
	return answer
}

var subjects = map[store.MailKind]string{
	store.VerifyMail: "Verify your email address",
	store.ResetMail:  "Choose a new password",
}

var texts = map[store.MailKind]string{
	store.VerifyMail: `Somebody made an account at Warble with this email address.

If it was you, open this link within 24 hours:

%s

If it was not you, do nothing.
`,
	store.ResetMail: `Somebody asked for a new password for the account with this email address.

If it was you, open this link within one hour:

%s

If it was not you, do nothing: your password stays as it is.
`,
}

// link returns the link to the playground's page. The token is in the fragment, which browsers do not send to servers or to other
// pages.
func link(public string, m Mail) string { return public + "/confirm#" + string(m.Kind) + "=" + m.Token }

func compose(from *netmail.Address, public string, m Mail) (*mail.Msg, error) {
	message := mail.NewMsg(mail.WithEncoding(mail.NoEncoding)) // the text is ASCII, and encoding could break the link
	message.FromMailAddress(from)
	if err := message.To(m.To); err != nil {
		return nil, errors.New("mail cannot be sent to this address")
	}
	message.Subject(subjects[m.Kind])
	message.SetDate()
	// If a request's mail is sent twice, a server that checks the message id keeps one. Both tokens are valid.
	message.SetMessageIDWithValue(fmt.Sprintf("mail-%d@%s", m.Request, from.Address[strings.LastIndexByte(from.Address, '@')+1:]))
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: prevents holiday replies
	message.SetBodyString(mail.TypeTextPlain, fmt.Sprintf(texts[m.Kind], link(public, m)))
	return message, nil
}
