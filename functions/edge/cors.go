package main

import (
	"net/http"
	"slices"
)

const (
	corsMethods = "GET, HEAD, POST, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id"
	corsExposed = "ETag, Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Experiment, X-Rate-Limit-Limit, " +
		"X-Rate-Limit-Remaining, X-Rate-Limit-Reset, X-Request-Id, X-Revision, X-Variant"
	corsMaxAge = "600"
)

// allowOrigin lets pages of the listed origins read answers. It returns true if it answered a preflight request itself.
func (e *Edge) allowOrigin(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(e.origins) == 0 {
		return false
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !slices.Contains(e.origins, origin) && !slices.Contains(e.origins, "*") {
		return false
	}
	header.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		header.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	header.Set("Access-Control-Allow-Methods", corsMethods)
	header.Set("Access-Control-Allow-Headers", corsHeaders)
	header.Set("Access-Control-Max-Age", corsMaxAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}
