package function

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"time"

	"warble/shared/experiment"
)

// The headers by which the edge tells a function what it found out. All of them are covered by the signature, so that
// a pod beside a function cannot forge a client's address or an experiment's assignment. Whoever adds one names it
// Warble-*: it is signed with the rest.
const (
	HeaderClient    = "Warble-Client"    // the client's address
	HeaderDeadline  = "Warble-Deadline"  // when the edge gives up, Unix milliseconds
	HeaderTime      = "Warble-Time"      // when it was signed, Unix seconds
	HeaderSignature = "Warble-Signature" // hex HMAC-SHA256 of what signed returns

	headerPrefix = "Warble-"
)

// assertionLife is how long a signature is accepted, to either side of now: clocks of two nodes may differ.
const assertionLife = 60 * time.Second

// Sign sets Warble-Time and Warble-Signature on a request to a function. Every other Warble-* header and X-Request-Id
// must be in place, and none that a client sent: see StripAssertions.
func Sign(r *http.Request, key []byte, now time.Time) {
	r.Header.Set(HeaderTime, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(HeaderSignature, signature(r, r.URL.RequestURI(), key))
}

// StripAssertions removes every Warble-* header, which only the edge may set.
func StripAssertions(header http.Header) {
	for name := range header {
		if strings.HasPrefix(name, headerPrefix) {
			delete(header, name)
		}
	}
}

type assertion struct {
	client     netip.Addr
	deadline   time.Time // zero where the edge set none
	assignment experiment.Assignment
	unread     error // why the edge's assignment cannot be read, as another version's
}

// verify returns what the edge asserted, and false where nothing is asserted, or the signature does not hold.
func verify(r *http.Request, key []byte, now time.Time) (assertion, bool) {
	sent := r.Header.Get(HeaderSignature)
	if len(key) == 0 || sent == "" {
		return assertion{}, false
	}
	at, err := strconv.ParseInt(r.Header.Get(HeaderTime), 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > assertionLife {
		return assertion{}, false
	}
	if !hmac.Equal([]byte(sent), []byte(signature(r, r.RequestURI, key))) {
		return assertion{}, false
	}
	client, err := netip.ParseAddr(r.Header.Get(HeaderClient))
	if err != nil {
		return assertion{}, false
	}
	a := assertion{client: client.Unmap()}
	if ms, err := strconv.ParseInt(r.Header.Get(HeaderDeadline), 10, 64); err == nil {
		a.deadline = time.UnixMilli(ms)
	}
	if text := r.Header.Get(experiment.Header); text != "" {
		a.assignment, a.unread = experiment.ParseAssignment(text)
	}
	return a, true
}

// signature is over the method, the target, the request id and each Warble-* header but itself, sorted, one a line.
// A header value holds no line break (net/http refuses them), so no two requests have the same text. The target is as the
// request line has it.
func signature(r *http.Request, target string, key []byte) string {
	text := make([]byte, 0, 512)
	text = append(text, r.Method...)
	text = append(text, '\n')
	text = append(text, target...)
	text = append(text, '\n')
	text = append(text, r.Header.Get("X-Request-Id")...)
	var names [8]string
	for _, name := range assertedNames(r.Header, names[:0]) {
		for _, value := range r.Header[name] {
			text = append(text, '\n')
			text = append(text, name...)
			text = append(text, ':')
			text = append(text, value...)
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	var sum [sha256.Size]byte
	return hex.EncodeToString(mac.Sum(sum[:0]))
}

func assertedNames(header http.Header, names []string) []string {
	for name := range header {
		if name != HeaderSignature && strings.HasPrefix(name, headerPrefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}
