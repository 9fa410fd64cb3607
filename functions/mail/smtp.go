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

// Sender sends a mail. nil means that a server has taken it; errRefused, that none ever will; another error, that it may
// have been taken.
type Sender func(context.Context, Mail) error

// errRefused is an answer about the recipient that trying again does not change, as that there is no such mailbox.
var errRefused = errors.New("the recipient was refused")

// toLog is the SMTP_URL of a local run.
const toLog = "log:"

// SenderFromEnv reads SMTP_URL, smtp://user:password@host:587 (STARTTLS; without, where it ends in ?tls=none) or
// smtps://user:password@host:465 (TLS from the start), MAIL_FROM, whom mail is from, and PUBLIC_URL, where people reach
// Warble: links lead there, and nothing that a client sends has a say in it. Without SMTP_URL it returns nil, and no mail
// is sent. With log: mail is written to the log, whose readers could then reset anybody's password; a cluster refuses it.
func SenderFromEnv(e *env.Reader, t *telemetry.Telemetry) Sender {
	text := e.String("SMTP_URL", "")
	if text == "" {
		return nil
	}
	from := readFrom(e)
	public := readPublic(e)
	if text == toLog {
		if e.String("KUBERNETES_SERVICE_HOST", "") != "" {
			e.Reject("SMTP_URL", text, "a server: the log of a cluster must not have the tokens of mail")
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
	const expected = `an address as RFC 5322 has it, as Warble <warble@example.com>`
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
	const expected = "the URL at which people reach Warble, as https://warble.example.com"
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

// newClient reads the URL of a server. It connects to none.
func newClient(text string) (func() (*mail.Client, error), error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is no URL") // its error would quote the password
	}
	options := []mail.Option{mail.WithTimeout(sendTimeout / 2)}
	port := u.Port()
	switch tlsMode := u.Query().Get("tls"); {
	case u.Hostname() == "":
		return nil, errors.New("it has no host")
	case u.Scheme == "smtps" && tlsMode == "":
		options = append(options, mail.WithSSL())
		port = or(port, "465")
	case u.Scheme == "smtp" && tlsMode == "":
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
		port = or(port, "587")
	case u.Scheme == "smtp" && tlsMode == "none" && u.User == nil: // a password is for nobody on the way to read
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		port = or(port, "25")
	default:
		return nil, errors.New("the scheme, or tls, is another one; and without TLS nobody logs in")
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, errors.New("its port is no number")
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

func or(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

// transmit sends over a connection of its own: mails are rare.
func transmit(ctx context.Context, build func() (*mail.Client, error), message *mail.Msg) error {
	client, err := build()
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("SMTP_URL: %w", err)
	}
	defer client.Close() //nolint:errcheck // the server has the mail, or has said what is wrong with it
	return failure(client.Send(message))
}

// failure words an answer of a server without the address, which its text may name.
func failure(err error) error {
	var refusal *mail.SendError
	if !errors.As(err, &refusal) {
		return err
	}
	said := fmt.Errorf("SMTP_URL: %s: the server answered %d %s", refusal.Reason, refusal.ErrorCode(), refusal.EnhancedStatusCode())
	if refusal.Reason == mail.ErrSMTPRcptTo && !refusal.IsTemp() && refusal.ErrorCode() >= 500 {
		return fmt.Errorf("%w: %w", errRefused, said)
	}
	return said
}

var subjects = map[store.MailKind]string{
	store.VerifyMail: "Verify your email address",
	store.ResetMail:  "Choose a new password",
}

var texts = map[store.MailKind]string{
	store.VerifyMail: `Somebody made an account at Warble with this email address.

If it was you, open this link within 24 hours:

%s

If it was not, do nothing.
`,
	store.ResetMail: `Somebody asked for a new password of the account with this email address.

If it was you, open this link within one hour:

%s

If it was not, do nothing: your password stays as it is.
`,
}

// link leads to the playground's page. The token is in the fragment, which browsers send to no server and name to no
// other page.
func link(public string, m Mail) string { return public + "/confirm#" + string(m.Kind) + "=" + m.Token }

func compose(from *netmail.Address, public string, m Mail) (*mail.Msg, error) {
	message := mail.NewMsg(mail.WithEncoding(mail.NoEncoding)) // the text is ASCII, and a link stays whole
	message.FromMailAddress(from)
	if err := message.To(m.To); err != nil {
		return nil, errors.New("the address is none that mail can be sent to")
	}
	message.Subject(subjects[m.Kind])
	message.SetDate()
	// Of two mails of one request, a server that looks at it keeps one. Both tokens count.
	message.SetMessageIDWithValue(fmt.Sprintf("mail-%d@%s", m.Request, from.Address[strings.LastIndexByte(from.Address, '@')+1:]))
	message.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday answers
	message.SetBodyString(mail.TypeTextPlain, fmt.Sprintf(texts[m.Kind], link(public, m)))
	return message, nil
}
