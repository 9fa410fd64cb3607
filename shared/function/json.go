package function

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"warble/shared/idempotency"
	"warble/shared/problem"
)

// None is the answer of a handler that has nothing to say: 204.
type None struct{}

// FromRequest is what a request type implements to read the path and the query. It runs after the body is decoded.
type FromRequest interface {
	FromRequest(r *http.Request) error
}

// Option changes how JSON answers.
type Option func(*endpoint)

// Status sets the status of a success; it is 200 otherwise.
func Status(code int) Option { return func(e *endpoint) { e.status = code } }

// Tagged adds an ETag, and answers 304 where If-None-Match already has it. For GETs of one resource.
func Tagged() Option { return func(e *endpoint) { e.tagged = true } }

// Header sets a header on every answer, problems included.
func Header(name, value string) Option {
	return func(e *endpoint) { e.headers = append(e.headers, [2]string{name, value}) }
}

// WithBody has a DELETE carry a body, as POST, PUT and PATCH do.
func WithBody() Option { return func(e *endpoint) { e.body = true } }

type endpoint struct {
	status  int
	body    bool
	tagged  bool
	headers [][2]string
}

// JSON makes a handler of h.
//
// Q is a struct; struct{} takes no body. Of a POST, PUT or PATCH the body is decoded into Q: 415 unless it is application/json in UTF-8, 413
// over 64 KiB, and otherwise the errors of Decode. Then, where *Q has it, FromRequest runs. A is encoded as JSON, but None
// is a 204 and idempotency.Answer is written as it is. An error of either becomes the answer that shared/problem's table gives it.
func JSON[Q, A any](h func(context.Context, Q) (A, error), options ...Option) http.Handler {
	e := endpoint{status: http.StatusOK}
	for _, option := range options {
		option(&e)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, header := range e.headers {
			w.Header().Set(header[0], header[1])
		}
		var q Q
		if err := decode(r, &q, e.body); err != nil {
			Fail(w, r, err)
			return
		}
		a, err := h(r.Context(), q)
		if err != nil {
			Fail(w, r, err)
			return
		}
		switch a := any(a).(type) {
		case None:
			w.WriteHeader(http.StatusNoContent)
		case idempotency.Answer:
			if a.Replayed {
				w.Header().Set("Idempotency-Replayed", "true")
			}
			write(w, a.Status, a.Body)
		default:
			e.encode(w, r, a)
		}
	})
}

// decode fills q from the body, the path and the query.
func decode(r *http.Request, q any, body bool) error {
	_, nothing := q.(*struct{})
	if body || !nothing && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch) {
		body, err := jsonBody(r)
		if err != nil {
			return err
		}
		if err := readIdempotency(r, body); err != nil {
			return err
		}
		if err := Decode(body, q); err != nil {
			return err
		}
	}
	if q, ok := q.(FromRequest); ok {
		return q.FromRequest(r)
	}
	return nil
}

// jsonBody returns the bytes of a body that calls itself JSON.
func jsonBody(r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, problem.WrongType.Detail("the body must not be compressed, and its Content-Encoding is %q", encoding)
	}
	kind := r.Header.Get("Content-Type")
	if kind != "application/json" {
		media, parameters, err := mime.ParseMediaType(kind)
		if err != nil || media != "application/json" {
			return nil, problem.WrongType.Detail("the body must be application/json, and its Content-Type is %q", kind)
		}
		if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
			return nil, problem.WrongType.Detail("the body must be in UTF-8, and its charset is %q", charset)
		}
	}
	return ReadBody(r)
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// encode answers with a, and with 304 where the client has it already.
func (e *endpoint) encode(w http.ResponseWriter, r *http.Request, a any) {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(a); err != nil {
		Fail(w, r, err)
		return
	}
	if e.tagged && (r.Method == http.MethodGet || r.Method == http.MethodHead) && NotModified(w, r, buffer.Bytes()) {
		return
	}
	write(w, e.status, buffer.Bytes())
}

func write(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = jsonType
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone, and there is nobody else to tell
}

var jsonType = []string{"application/json"}

// NotModified sets the ETag of a body. If the request's If-None-Match has it, NotModified answers 304 and returns true.
func NotModified(w http.ResponseWriter, r *http.Request, body []byte) bool {
	tag := entityTag(body)
	w.Header().Set("ETag", tag)
	if !HasTag(r, tag) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// entityTag is a strong validator: equal bytes, equal tag.
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// HasTag reports that If-None-Match holds tag, weakly compared, or is * (RFC 9110, section 13.1.2).
func HasTag(r *http.Request, tag string) bool {
	for _, line := range r.Header["If-None-Match"] {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == tag {
				return true
			}
		}
	}
	return false
}
