package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// receiver is a function that refuses the first events with given statuses, and accepts all later ones.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	refuse []int
	took   []string
}

func newReceiver(t *testing.T, refuse ...int) *receiver {
	t.Helper()
	s := &receiver{refuse: refuse}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.took = append(s.took, r.Header.Get("Ce-Type")+" "+string(body))
		if len(s.refuse) > 0 {
			w.WriteHeader(s.refuse[0])
			s.refuse = s.refuse[1:]
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *receiver) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.took, ", ")
}

const trigger = `apiVersion: eventing.knative.dev/v1
kind: Trigger
spec:
  filter:
    attributes:
      type: a.v1
  subscriber:
    ref:
      name: mail
`

func TestTheBrokerDeliversEventsByTheTypeOfTheTrigger(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "600-mail.yaml"), []byte("kind: PingSource\n---\n"+trigger), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		refuse []int
		want   string
	}{
		"at the first attempt": {nil, `a.v1 {"n":1}`},
		"at the third attempt": {[]int{503, 500}, `a.v1 {"n":1}, a.v1 {"n":1}, a.v1 {"n":1}`},
		"refused for good":     {[]int{422}, `a.v1 {"n":1}`},
	} {
		for _, subscribed := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				function, everything := newReceiver(t, c.refuse...), newReceiver(t)
				sink := ""
				if subscribed {
					sink = everything.URL + "/below"
				}
				var log syncText
				b, err := newBroker(folder, sink, func(name string) (string, bool) {
					return strings.TrimPrefix(function.URL, "http://"), name == "mail"
				}, &log)
				if err != nil {
					t.Fatal(err)
				}
				url, stop, err := b.start(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(stop)
				for _, kind := range []string{"a.v1", "b.v1"} {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"n":1}`))
					if err != nil {
						t.Fatal(err)
					}
					for name, value := range map[string]string{"Content-Type": "application/json", "Ce-Id": "1", "Ce-Source": "x", "Ce-Specversion": "1.0", "Ce-Type": kind} {
						request.Header.Set(name, value)
					}
					answer, err := http.DefaultClient.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					answer.Body.Close()
					if answer.StatusCode/100 != 2 {
						t.Errorf("%s: %s", kind, answer.Status)
					}
				}
				within(t, time.Minute, "the function has "+c.want, func() bool { return function.got() == c.want })
				if want := `a.v1 {"n":1}, b.v1 {"n":1}`; subscribed && everything.got() != want {
					t.Errorf("K_SINK got %s, want %s", everything.got(), want)
				}
				if logged := strings.Count(log.String(), "no K_SINK: event"); (logged == 2) == subscribed {
					t.Errorf("%d events in the log: %s", logged, log.String())
				}
			})
		}
	}
}

func TestAnUnsupportedTriggerIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Replace(trigger, "type: a.v1", "source: x", 1), strings.Replace(trigger, "name: mail", "other: mail", 1)} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "600-x.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newBroker(folder, "", nil, io.Discard); err == nil || !strings.Contains(err.Error(), "600-x.yaml") {
			t.Errorf("%v: expected the file's name", err)
		}
	}
	if _, err := newBroker("../../knative", "nowhere", nil, io.Discard); err == nil || !strings.Contains(err.Error(), "K_SINK") {
		t.Errorf("%v: expected K_SINK", err)
	}
	if b, err := newBroker("../../knative", "", nil, io.Discard); err != nil || len(b.subscribers) == 0 {
		t.Errorf("%v: expected the Triggers of knative/", err)
	}
}

type syncText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *syncText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *syncText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
