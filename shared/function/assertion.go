package function

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"warble/shared/experiment"
)

// The headers in which the edge asserts facts about a request. The signature covers all of them, so that another pod cannot forge a
// client's address or an experiment's assignment. A new header must be called Warble-*; then it is signed as well.
const (
	HeaderClient    = "Warble-Client"    // the client's address
	HeaderDeadline  = "Warble-Deadline"  // when the edge gives up, Unix milliseconds
	HeaderTime      = "Warble-Time"      // when it was signed, Unix seconds
	HeaderSignature = "Warble-Signature" // hex HMAC-SHA256 of the text that mac.sign describes

	headerPrefix = "Warble-"
)

// assertionLife is how far the time of a signature may be from now, before or after, because the clocks of two nodes may differ.
const assertionLife = 60 * time.Second

// Signer signs what the edge asserts, with one key. It is safe for concurrent use.
type Signer struct {
	key  []byte
	macs sync.Pool // of *mac
}

// mac is the keyed state of HMAC with its buffers. Making one costs more than a signature, so they are reused.
type mac struct {
	hash.Hash

	text []byte
	sum  [sha256.Size]byte
	hex  [2 * sha256.Size]byte
}

// NewSigner returns a Signer. Without a key, that is, if it is nil or empty, no signature is valid.
func NewSigner(key []byte) *Signer {
	return &Signer{key, sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, key)} }}}
}

// Sign sets Warble-Time and Warble-Signature on a request to a function. Before the call, all other Warble-* headers and
// X-Request-Id must be set, and the Warble-* headers that a client sent must be removed: see StripAssertions.
func (s *Signer) Sign(r *http.Request, now time.Time) {
	r.Header[HeaderTime] = []string{strconv.FormatInt(now.Unix(), 10)}
	m := s.macs.Get().(*mac)
	r.Header[HeaderSignature] = []string{string(m.sign(r, r.URL.RequestURI()))}
	s.macs.Put(m)
}

// Sign signs one request with a key. To sign many with the same key, use a Signer.
func Sign(r *http.Request, key []byte, now time.Time) { NewSigner(key).Sign(r, now) }

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
	deadline   time.Time // zero if the edge set none
	assignment experiment.Assignment
	unread     error // why the assignment cannot be read: the edge may be of another version
}

// verify returns what the edge asserted. It returns false if nothing is asserted, or if the signature is not valid.
func (s *Signer) verify(r *http.Request, now time.Time) (assertion, bool) {
	sent := r.Header.Get(HeaderSignature)
	if len(s.key) == 0 || sent == "" {
		return assertion{}, false
	}
	at, err := strconv.ParseInt(r.Header.Get(HeaderTime), 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > assertionLife {
		return assertion{}, false
	}
	m := s.macs.Get().(*mac)
	holds := hmac.Equal([]byte(sent), m.sign(r, r.RequestURI))
	s.macs.Put(m)
	if !holds {
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

// sign signs a text. Its lines are the method, the target as in the request line, the request id, and then the Warble-*
// headers except the signature, in sorted order. A header value has no line break, because net/http refuses them, so no two
// requests have the same text. The result is valid until the next call.
func (m *mac) sign(r *http.Request, target string) []byte {
	text := append(m.text[:0], r.Method...)
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
	m.text = text
	m.Reset()
	m.Write(text)
	hex.Encode(m.hex[:], m.Sum(m.sum[:0]))
	return m.hex[:]
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
