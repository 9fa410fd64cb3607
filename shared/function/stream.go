package function

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// stall is how long a client may send nothing of a body that Stream has opened.
const stall = 30 * time.Second

// Stream lifts the limits on a request that is passed on as it is: its body may have any size, and its body and its answer may
// take any time, as long as the client does not stop sending the body for 30 s. It has no effect on an Exchange of no request.
func (x *Exchange) Stream(r *http.Request) {
	if x.ResponseWriter == nil {
		return
	}
	control := x.deadline(time.Time{})
	if x.body != nil {
		r.Body = &streamed{body: x.body, control: control}
	}
}

// Until gives the client until then to take the answer, where the limits of the server would end the exchange before. It has no
// effect on an Exchange of no request.
func (x *Exchange) Until(then time.Time) {
	if x.ResponseWriter != nil && time.Until(then) > readTimeout {
		x.deadline(then)
	}
}

// deadline replaces both deadlines of the connection: net/http reads from it while an answer is under way, and takes a read that
// is late for a client that has left.
func (x *Exchange) deadline(t time.Time) *http.ResponseController {
	control := http.NewResponseController(x.ResponseWriter)
	_ = control.SetWriteDeadline(t) // a writer that has no deadlines has none to replace
	_ = control.SetReadDeadline(t)
	return control
}

// Switched notes that the connection is another protocol's from now on, so that the access line says 101.
func (x *Exchange) Switched() { x.status = http.StatusSwitchingProtocols }

// streamed is a body each read of which has its own deadline. The deadline is lifted between reads, because net/http reads from
// the connection while an answer is under way to see whether the client has left. Once the body is over, the deadline is
// net/http's again: Close waits for a read that is under way.
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
		return s.body.Read(p) // says why
	}
	_ = s.control.SetReadDeadline(time.Now().Add(stall)) // as Stream
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
