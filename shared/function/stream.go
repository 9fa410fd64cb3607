package function

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// stall is how long a client may pause while it sends a body after Stream.
const stall = 30 * time.Second

// Stream removes the limits of a request that is passed on unchanged. Its body may have any size, and body and answer may take any time, as
// long as the client does not pause for 30 s while it sends the body. Outside of a request, Stream has no effect.
func (x *Exchange) Stream(r *http.Request) {
	if x.ResponseWriter == nil {
		return
	}
	control := x.deadline(time.Time{})
	if x.body != nil {
		r.Body = &streamed{body: x.body, control: control}
	}
}

// Until gives the client time until then to take the answer, if the server's limits would end the exchange earlier. Outside of a
// request, it has no effect.
func (x *Exchange) Until(then time.Time) {
	if x.ResponseWriter != nil && time.Until(then) > readTimeout {
		x.deadline(then)
	}
}

// deadline replaces both deadlines of the connection. The read deadline matters as well: net/http reads from the connection while it sends
// an answer, and a read that times out looks like a client that has left.
func (x *Exchange) deadline(t time.Time) *http.ResponseController {
	control := http.NewResponseController(x.ResponseWriter)
	_ = control.SetWriteDeadline(t) // fails only if the writer has no deadlines
	_ = control.SetReadDeadline(t)
	return control
}

// Switched notes that another protocol has taken over the connection, so that the access line says 101.
func (x *Exchange) Switched() { x.status = http.StatusSwitchingProtocols }

// streamed is a body that gives each read its own deadline. Between reads there is no deadline, because net/http reads from the
// connection while it sends an answer, to see whether the client has left. After the end of the body, streamed sets no deadline any
// more. So that none is set later, Close waits for a read under way.
type streamed struct {
	body    io.ReadCloser
	control *http.ResponseController

	mu   sync.Mutex
	over bool
}

func (s *streamed) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return s.body.Read(p) // returns the reason
	}
	_ = s.control.SetReadDeadline(time.Now().Add(stall)) // fails only if there are no deadlines
	n, err := s.body.Read(p)
	_ = s.control.SetReadDeadline(time.Time{})
	s.over = err != nil
	return n, err
}

func (s *streamed) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.body.Close()
}
