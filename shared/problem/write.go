package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// MediaType is the Content-Type of every problem.
const MediaType = "application/problem+json"

// body is the JSON of a problem: RFC 9457, and also the errors of X API v2.
type body struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	Errors   []Item `json:"errors"`
}

// Write answers with p. instance is the request's id. It sets the headers that a status requires (Retry-After, Allow,
// WWW-Authenticate). Headers that w already has stay.
func Write(w http.ResponseWriter, p *Problem, instance string) {
	header := w.Header()
	header.Set("Content-Type", MediaType)
	if p.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(Seconds(p.RetryAfter)))
	} else if p.Kind == Unavailable {
		header.Set("Retry-After", strconv.Itoa(Seconds(DefaultRetryAfter)))
	}
	if p.Allow != "" {
		header.Set("Allow", p.Allow)
	}
	if p.Kind == Unauthenticated && header.Get("WWW-Authenticate") == "" {
		header.Set("WWW-Authenticate", `Bearer realm="warble"`)
	}
	items := p.Errors
	if len(items) == 0 {
		items = []Item{{Message: p.Detail}}
	}
	text, err := json.Marshal(body{p.Type(), p.Title, p.Status, p.Detail, instance, items})
	if err != nil {
		panic(err) // strings and integers always encode
	}
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(text) // an error means that the client is gone
}

// Seconds rounds a wait up to whole seconds, at least 1, for Retry-After and the rate-limit headers.
func Seconds(wait time.Duration) int {
	return max(1, int((wait+time.Second-1)/time.Second))
}
