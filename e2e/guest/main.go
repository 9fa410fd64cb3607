// Command guest is a small shop that does not use Warble. docs/guests.md and the tests put it into an experiment. It imports
// nothing of Warble, and is not a part of it.
//
// A treatment may change BANNER, which the page shows, and FAIL, the percentage of pages and orders that fail.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// cookie is the cookie with the visitor's id: spec.identity.cookie of the experiment. Its value begins with the id.
const cookie = "shop_visitor"

func main() {
	s := &shop{banner: os.Getenv("BANNER"), sink: os.Getenv("K_SINK")}
	if text := os.Getenv("FAIL"); text != "" {
		var err error
		if s.fail, err = strconv.Atoi(text); err != nil {
			log.Fatalf("FAIL: %q: expected a percent, as 50", text)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /shop", s.page)
	mux.HandleFunc("POST /shop/orders", s.order)
	mux.HandleFunc("POST /shop/upload", upload)
	mux.HandleFunc("GET /shop/events", events)
	mux.Handle("GET /shop/ws", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) })) // until the visitor leaves
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<h1>This shop has no such page</h1>")
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

type shop struct {
	banner, sink string
	fail         int
}

// fails answers with an error in FAIL percent of calls, at random, and reports whether it did.
func (s *shop) fails(w http.ResponseWriter) bool {
	if mathrand.IntN(100) >= s.fail {
		return false
	}
	http.Error(w, "the shop is out of order", http.StatusInternalServerError)
	return true
}

func (s *shop) page(w http.ResponseWriter, _ *http.Request) {
	if s.fails(w) {
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<h1>Shop</h1><p>%s</p><form method=post action=/shop/orders><button>Order</button></form>", html.EscapeString(s.banner))
}

// order sends the broker a CloudEvent with the visitor as its subject.
func (s *shop) order(w http.ResponseWriter, r *http.Request) {
	if s.fails(w) {
		return
	}
	visitor := ""
	if c, err := r.Cookie(cookie); err == nil {
		visitor, _, _ = strings.Cut(c.Value, ".")
	}
	if visitor == "" || s.sink == "" {
		w.WriteHeader(http.StatusAccepted) // there is nobody to tell it of, or nobody to tell
		return
	}
	body, err := json.Marshal(map[string]any{"visitor": visitor, "total": 12.5})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	event, err := http.NewRequestWithContext(r.Context(), http.MethodPost, s.sink, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": rand.Text(), "Ce-Source": "/shop", "Ce-Type": "shop.order.v1", "Ce-Subject": visitor,
		"Ce-Time": time.Now().UTC().Format(time.RFC3339Nano), "Content-Type": "application/json",
	} {
		event.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(event)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		http.Error(w, "the broker answered "+answer.Status, http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// upload answers with the size and the hash of the body.
func upload(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%d %x\n", n, hash.Sum(nil))
}

// events sends an event every 100 ms, until the visitor leaves.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for n := 0; ; n++ {
		fmt.Fprintf(w, "data: %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
