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

// broker replaces Knative's broker. It receives relay's events, and delivers each event to the functions whose Triggers in
// knative/600-*.yaml filter by its type. It keeps events only in memory, like the broker that comes with Knative. It also posts every event
// to the caller's K_SINK or, if K_SINK is not set, logs it.
type broker struct {
	subscribers map[string][]subscriber              // by type of event
	address     func(function string) (string, bool) // of the process that serves the function now
	proxy       http.Handler                         // to the caller's K_SINK; nil if it is not set
	log         io.Writer
	deliveries  context.Context //nolint:containedctx // the run's context: a delivery may take longer than the request that sent the event
}

// subscriber is a function to which a Trigger delivers events, and the path of the deliveries.
type subscriber struct{ function, path string }

const (
	// maxEvent, in bytes, is larger than any of Warble's events.
	maxEvent = 1 << 20
	// deliveryTries is the number of attempts to deliver an event. They take an hour, as the Trigger of mail has it on a cluster. Each
	// time the process is killed that sends a mail, the next attempt waits a minute for the end of its claim.
	deliveryTries   = 720
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

// readTriggers adds the subscribers of a file's Triggers, by the type of event.
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
			return fmt.Errorf("%s: expected Triggers that filter only by type, and whose subscriber is a function", file)
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
	go server.Serve(listener) //nolint:errcheck // it returns http.ErrServerClosed
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

func (b *broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	header := r.Header.Clone()
	rewind := func() { r.Body = io.NopCloser(bytes.NewReader(body)) }
	rewind()
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, to := range b.subscribers[e.Type()] {
		go b.deliver(to, header, body)
	}
	if b.proxy != nil {
		rewind()
		b.proxy.ServeHTTP(w, r)
		return
	}
	if line, err := e.MarshalJSON(); err == nil {
		fmt.Fprintf(b.log, "{\"level\":\"info\",\"event\":%s,\"message\":\"no K_SINK: event\"}\n", line)
	}
	w.WriteHeader(http.StatusAccepted)
}

// deliver posts an event to a function until the function accepts it, or refuses it for good.
func (b *broker) deliver(to subscriber, header http.Header, body []byte) {
	backoff := deliveryBackoff
	for range deliveryTries {
		again, err := b.post(to, header, body)
		if err == nil {
			return
		}
		if !again {
			fmt.Fprintf(b.log, "{\"level\":\"warn\",\"message\":%q}\n", fmt.Sprintf("an event was not delivered to %s: %v", to.function, err))
			return
		}
		select {
		case <-b.deliveries.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
	fmt.Fprintf(b.log, "{\"level\":\"warn\",\"message\":%q}\n", "an event was not delivered to "+to.function+": it failed for an hour")
}

// post posts an event once. again reports whether another attempt may succeed. Knative's broker, too, does not repeat most answers of 4xx.
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
