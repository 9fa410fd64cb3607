package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"sigs.k8s.io/yaml"
)

// broker stands for Knative's: it takes relay's events, and brings each to the functions whose Trigger in knative/600-*.yaml
// asks for its type. As the broker that comes with Knative it keeps them in memory. It posts all events to the caller's K_SINK
// as well, where there is one, and otherwise logs them.
type broker struct {
	subscribers map[string][]subscriber              // by type of event
	address     func(function string) (string, bool) // of the process that serves it now
	proxy       http.Handler                         // to the caller's K_SINK; nil for none
	log         io.Writer
	deliveries  context.Context //nolint:containedctx // of the run: a delivery outlives the request that brought it
}

// subscriber is a function that a Trigger brings events to, and the path that it takes them at.
type subscriber struct{ function, path string }

const (
	// maxEvent is more than an event of Warble's has.
	maxEvent = 1 << 20
	// deliveryTries is how often an event is brought to a function, over two minutes: a claim of a process that was killed lasts one.
	deliveryTries   = 30
	deliveryBackoff = 50 * time.Millisecond
	deliveryTimeout = 30 * time.Second
)

func newBroker(folder, sink string, address func(string) (string, bool), log io.Writer) (*broker, error) {
	b := &broker{address: address, log: log, subscribers: make(map[string][]subscriber)}
	files, err := filepath.Glob(filepath.Join(folder, "600-*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if err := readTriggers(file, b.subscribers); err != nil {
			return nil, err
		}
	}
	if sink != "" {
		target, err := url.Parse(sink)
		if err != nil || target.Host == "" {
			return nil, fmt.Errorf("K_SINK is %q: expected the URL that takes CloudEvents", sink)
		}
		b.proxy = &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL, r.Out.Host = target, target.Host
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, "K_SINK: "+err.Error(), http.StatusBadGateway)
			},
		}
	}
	return b, nil
}

// readTriggers adds those that the Triggers of a file bring events to, by type.
func readTriggers(file string, subscribers map[string][]subscriber) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var trigger struct {
			Kind string `json:"kind"`
			Spec struct {
				Filter struct {
					Attributes map[string]string `json:"attributes"`
				} `json:"filter"`
				Subscriber struct {
					Ref struct {
						Name string `json:"name"`
					} `json:"ref"`
					URI string `json:"uri"`
				} `json:"subscriber"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(part), &trigger); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if trigger.Kind != "Trigger" {
			continue
		}
		kind, to := trigger.Spec.Filter.Attributes["type"], trigger.Spec.Subscriber.Ref.Name
		if kind == "" || len(trigger.Spec.Filter.Attributes) != 1 || to == "" {
			return fmt.Errorf("%s: a local run knows Triggers that filter by type alone, and whose subscriber is a function", file)
		}
		subscribers[kind] = append(subscribers[kind], subscriber{to, cmp.Or(trigger.Spec.Subscriber.URI, "/")})
	}
	return nil
}

// start serves the broker on loopback until ctx ends or stop is called. It returns its URL.
func (b *broker) start(ctx context.Context) (sink string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	b.deliveries = ctx
	server := &http.Server{Handler: b, ReadHeaderTimeout: time.Second}
	go server.Serve(listener) //nolint:errcheck // it says that it was closed
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	header := r.Header.Clone()
	again := func() { r.Body = io.NopCloser(bytes.NewReader(body)) }
	again()
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, to := range b.subscribers[e.Type()] {
		go b.bring(to, header, body)
	}
	if b.proxy != nil {
		again()
		b.proxy.ServeHTTP(w, r)
		return
	}
	if line, err := e.MarshalJSON(); err == nil {
		fmt.Fprintf(b.log, "{\"level\":\"info\",\"event\":%s,\"message\":\"no K_SINK: event\"}\n", line)
	}
	w.WriteHeader(http.StatusAccepted)
}

// bring posts an event to a function until it has taken it or has said that it never will.
func (b *broker) bring(to subscriber, header http.Header, body []byte) {
	backoff := deliveryBackoff
	for range deliveryTries {
		again, err := b.post(to, header, body)
		if err == nil {
			return
		}
		if !again {
			fmt.Fprintf(b.log, "{\"level\":\"warn\",\"message\":%q}\n", fmt.Sprintf("%s was not brought an event: %v", to.function, err))
			return
		}
		select {
		case <-b.deliveries.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
	fmt.Fprintf(b.log, "{\"level\":\"warn\",\"message\":%q}\n", to.function+" was not brought an event: it took none in two minutes")
}

// post reports, with the error, whether another try may do better; Knative's broker gives up most 4xx.
func (b *broker) post(to subscriber, header http.Header, body []byte) (again bool, err error) {
	address, known := b.address(to.function)
	if !known {
		return false, errors.New("there is no such function")
	}
	ctx, cancel := context.WithTimeout(b.deliveries, deliveryTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+to.path, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header = header.Clone()
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return true, err
	}
	defer answer.Body.Close() //nolint:errcheck // nothing of it is read
	switch {
	case answer.StatusCode/100 == 2:
		return false, nil
	case answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode >= 500:
		return true, fmt.Errorf("it answered %s", answer.Status)
	}
	return false, fmt.Errorf("it answered %s", answer.Status)
}
