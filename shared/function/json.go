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

// None is an answer without content: 204.
type None struct{}

// FromRequest is implemented by request types that read the path or the query. It runs after the body is decoded.
type FromRequest interface {
	FromRequest(r *http.Request) error
}

// Option changes how JSON answers.
type Option func(*endpoint)

// Status sets the status of a success. The default is 200.
func Status(code int) Option { return func(e *endpoint) { e.status = code } }

// Tagged adds an ETag, and answers 304 if If-None-Match has it. It is for GETs of one resource.
func Tagged() Option { return func(e *endpoint) { e.tagged = true } }

// Header sets a header of every answer, including problems.
func Header(name, value string) Option {
	return func(e *endpoint) { e.headers = append(e.headers, [2]string{name, value}) }
}

// WithBody makes a DELETE have a body, like POST, PUT and PATCH.
func WithBody() Option { return func(e *endpoint) { e.body = true } }

type endpoint struct {
	status  int
	body    bool
	tagged  bool
	headers [][2]string
}

// JSON returns an http.Handler that decodes a request into Q, calls h, and encodes A.
//
// Q is a struct. With struct{} no body is read. The body of a POST, PUT or PATCH is decoded into Q. The answer is 415 if the body is not
// application/json in UTF-8, 413 if it is over 64 KiB, and otherwise an error of Decode. Then FromRequest runs, if *Q implements it. A is
// encoded as JSON, except that None gives 204, and an idempotency.Answer is written as it is. The table of shared/problem maps all errors
// to answers.
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

// decode reads the body, the path and the query into q.
func decode(r *http.Request, q any, body bool) error {
	_, empty := q.(*struct{})
	if body || !empty && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch) {
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

// jsonBody returns the bytes of a body whose headers say that it is uncompressed JSON in UTF-8.
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

// encode answers with a as JSON, or with 304 if the client has it already.
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
	_, _ = w.Write(body) // if the client is gone, nobody needs the error
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

// entityTag returns a strong validator: equal bytes have equal tags.
func entityTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// HasTag reports whether If-None-Match contains tag, by weak comparison, or is * (RFC 9110, section 13.1.2).
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
