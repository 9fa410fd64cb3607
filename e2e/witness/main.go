// Command witness helps tests inside of a cluster: it receives and stores events, and sends requests to hosts that only the
// cluster can reach. Use it only in test clusters, because it fetches any URL.
//
//	POST /events            receives a CloudEvent
//	GET  /events            all received events, in order, as a JSON array of structured CloudEvents
//	GET  /fetch?url=U       the answer of U: its status, headers and body; with &times=N also the seconds of each answer, with
//	                        &host=H with that Host header
//	GET  /witness           the client's address, from the edge; empty without an edge
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cloudevents "github.com/cloudevents/sdk-go/v2/protocol/http"
)

const (
	// most is the greatest number of stored events, and of requests to one URL.
	most = 10_000
	// limit is the longest time of one answer, including a cold start.
	limit = 20 * time.Second
)

func main() {
	w := &witness{taken: []event.Event{}, client: &http.Client{Timeout: limit}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", w.take)
	mux.HandleFunc("GET /events", w.tell)
	mux.HandleFunc("GET /fetch", w.fetch)
	mux.HandleFunc("GET /witness", func(answer http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(answer, r.Header.Get("Warble-Client"))
	})
	handler := http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		answer.Header().Set("X-Revision", os.Getenv("K_REVISION")) // as functions do, so that it may have arms
		mux.ServeHTTP(answer, r)
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: handler, ReadHeaderTimeout: limit}
	log.Fatal(server.ListenAndServe())
}

type witness struct {
	client *http.Client
	mu     sync.Mutex
	taken  []event.Event
}

func (w *witness) take(answer http.ResponseWriter, r *http.Request) {
	e, err := cloudevents.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.taken) == most {
		http.Error(answer, fmt.Sprintf("there are %d events", most), http.StatusInsufficientStorage)
		return
	}
	w.taken = append(w.taken, *e)
	answer.WriteHeader(http.StatusAccepted) // without a body, which would be a reply event
}

func (w *witness) tell(answer http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	write(answer, w.taken)
}

// fetched is the last answer of a URL.
type fetched struct {
	Status  int
	Header  http.Header
	Body    string
	Seconds []float64
}

func (w *witness) fetch(answer http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	from, err := url.Parse(query.Get("url"))
	if err != nil || from.Scheme != "http" || from.Host == "" {
		http.Error(answer, fmt.Sprintf("url=%q: expected http://host/path", query.Get("url")), http.StatusBadRequest)
		return
	}
	times := 1
	if text := query.Get("times"); text != "" {
		if times, err = strconv.Atoi(text); err != nil || times < 1 || times > most {
			http.Error(answer, fmt.Sprintf("times=%q: expected 1 to %d", text, most), http.StatusBadRequest)
			return
		}
	}
	var f fetched
	for range times {
		start := time.Now()
		if err := w.ask(r, from, &f); err != nil {
			http.Error(answer, err.Error(), http.StatusBadGateway)
			return
		}
		f.Seconds = append(f.Seconds, time.Since(start).Seconds())
	}
	write(answer, f)
}

func (w *witness) ask(r *http.Request, from *url.URL, f *fetched) error {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	request.Host = r.URL.Query().Get("host") // "" leaves it the URL's
	got, err := w.client.Do(request)
	if err != nil {
		return err
	}
	defer got.Body.Close() //nolint:errcheck // it was read to its end
	body, err := io.ReadAll(got.Body)
	f.Status, f.Header, f.Body = got.StatusCode, got.Header, string(body)
	return err
}

func write(answer http.ResponseWriter, value any) {
	answer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(answer).Encode(value); err != nil {
		log.Print(err)
	}
}
