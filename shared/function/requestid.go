package function

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// requestID returns the client's X-Request-Id if it matches ^[A-Za-z0-9._-]{1,64}$, and otherwise a new id.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); saneID(id) {
		return id
	}
	return rand.Text()
}

func saneID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// maxAgent is how many bytes of a User-Agent are kept. Those of browsers have less than 200.
const maxAgent = 256

func userAgent(r *http.Request) string {
	agent := r.UserAgent()
	return strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
}
