package apitest

import (
	"io"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// PostOffice is a real SMTP server, without TLS. It stores the mail that it accepts.
type PostOffice struct {
	URL   string       // for SMTP_URL
	Taken func(Letter) // called with each letter, one at a time; may be nil

	mu      sync.Mutex
	letters []Letter
	answers []error       // the answers to the next recipients; further recipients are accepted
	hold    chan struct{} // a mail waits until it is closed; nil for no wait
}

// Letter is a mail that was accepted.
type Letter struct{ From, To, Text string }

var link = regexp.MustCompile(`(?m)^(https?://\S+/confirm)#(verify|reset)=([A-Za-z0-9_-]{43})\r?$`)

// Link returns the page, the kind and the token of the letter's link; empty if it has no link.
func (l Letter) Link() (page, kind, token string) {
	if found := link.FindStringSubmatch(l.Text); found != nil {
		return found[1], found[2], found[3]
	}
	return "", "", ""
}

// OpenPostOffice starts a PostOffice that serves until the test ends.
func OpenPostOffice(t testing.TB) *PostOffice {
	t.Helper()
	p := &PostOffice{}
	server := p.server()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener) //nolint:errcheck // the error is that it was closed
	t.Cleanup(func() { _ = server.Close() })
	p.URL = "smtp://" + listener.Addr().String() + "?tls=none"
	return p
}

// Serve accepts mail at a listener, and returns why it stopped.
func (p *PostOffice) Serve(listener net.Listener) error { return p.server().Serve(listener) }

func (p *PostOffice) server() *smtp.Server {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &counter{office: p}, nil }))
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	return server
}

// Letters returns the accepted letters, in order.
func (p *PostOffice) Letters() []Letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.letters)
}

// Await waits for the newest letter to an address of a kind, verify or reset.
func (p *PostOffice) Await(t testing.TB, to, kind string) Letter {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		for _, l := range slices.Backward(p.Letters()) {
			if _, k, _ := l.Link(); l.To == to && k == kind {
				return l
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no mail of kind %s to %s", kind, to)
		}
	}
}

// Answer sets the answers to the next recipients; nil accepts one.
func (p *PostOffice) Answer(answers ...error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = answers
}

// Hold makes mails wait, before they are accepted, until the returned function is called.
func (p *PostOffice) Hold() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := make(chan struct{})
	p.hold = hold
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.hold = nil
		close(hold)
	}
}

// counter is one connection.
type counter struct {
	office *PostOffice
	letter Letter
}

func (c *counter) Mail(from string, _ *smtp.MailOptions) error {
	c.letter = Letter{From: from}
	return nil
}

func (c *counter) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.office.mu.Lock()
	defer c.office.mu.Unlock()
	c.letter.To = to
	if len(c.office.answers) == 0 {
		return nil
	}
	err := c.office.answers[0]
	c.office.answers = c.office.answers[1:]
	return err
}

func (c *counter) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.letter.Text = string(text)
	c.office.mu.Lock()
	hold := c.office.hold
	c.office.mu.Unlock()
	if hold != nil {
		<-hold
	}
	c.office.mu.Lock()
	defer c.office.mu.Unlock()
	c.office.letters = append(c.office.letters, c.letter)
	if c.office.Taken != nil {
		c.office.Taken(c.letter)
	}
	return nil
}

func (*counter) Reset()        {}
func (*counter) Logout() error { return nil }
