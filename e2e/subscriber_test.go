//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// subscriber keeps the events that relay posts to its URL, in the order in which they came.
type subscriber struct {
	t   *testing.T
	url string // for K_SINK

	mu       sync.Mutex
	received []received
}

// received is an event that the subscriber got. user is the user whose events keep their order.
type received struct{ id, kind, subject, user string }

// startSubscriber starts a subscriber on loopback. It stops at the end of the test.
func startSubscriber(t *testing.T) *subscriber {
	t.Helper()
	s := &subscriber{t: t}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, err := cloudevents.NewEventFromHTTPRequest(r)
	if err != nil {
		s.t.Error(err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, received{e.ID(), e.Type(), e.Subject(), fmt.Sprint(e.Extensions()["partitionkey"])})
	w.WriteHeader(http.StatusAccepted)
}

// events returns the events so far. An event that was sent again is there twice.
func (s *subscriber) events() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// has reports whether an event of this type and subject has come.
func (s *subscriber) has(kind, subject string) bool {
	return slices.ContainsFunc(s.events(), func(e received) bool { return e.kind == kind && e.subject == subject })
}
