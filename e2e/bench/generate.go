package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// generate is the load generator, which is a separate process. It reads a load as JSON from in, and writes the outcome.
//
// Each connection sends its next request when the answer to the last has come (a closed loop). Requests are prepared as bytes, and only the
// status and the length of an answer are read. On a machine of two cores, the CPU time that the generator uses is missing in both compared
// servers, and would make them look alike.
func generate(in io.Reader, out io.Writer) error {
	var l load
	if err := json.NewDecoder(in).Decode(&l); err != nil {
		return err
	}
	tokens, err := os.ReadFile(l.Tokens)
	if err != nil {
		return err
	}
	g := &generator{load: l, tokens: strings.Fields(string(tokens))[:l.Distinct]}
	g.begin = time.Now().Add(l.Warmup)
	g.end = g.begin.Add(l.Time)
	g.next.Store(int64(l.Skip))

	workers := make([]*worker, l.Connections)
	var all sync.WaitGroup
	for i := range workers {
		workers[i] = &worker{generator: g, index: i, latencies: newLatencies()}
		all.Go(workers[i].run)
	}
	all.Wait()
	return json.NewEncoder(out).Encode(g.outcome(workers))
}

type generator struct {
	load
	tokens     []string
	begin, end time.Time
	next       atomic.Int64 // of the next request
}

func (g *generator) outcome(workers []*worker) outcome {
	latencies := newLatencies()
	o := outcome{Sent: int(g.next.Load()) - g.Skip}
	for _, w := range workers {
		latencies.Merge(w.latencies)
		o.Failures += w.failures
		if w.err != nil {
			o.Failure = w.err.Error()
		}
	}
	o.Counted = int(latencies.TotalCount())
	o.P50 = time.Duration(latencies.ValueAtQuantile(50)).Seconds()
	o.P99 = time.Duration(latencies.ValueAtQuantile(99)).Seconds()
	o.Max = time.Duration(latencies.Max()).Seconds()
	return o
}

// newLatencies returns a histogram from 1 µs to a minute, in ns, with three digits.
func newLatencies() *hdrhistogram.Histogram { return hdrhistogram.New(1000, int64(time.Minute), 3) }

// worker is one connection.
type worker struct {
	*generator
	index     int
	conn      net.Conn
	in        *bufio.Reader
	out       []byte
	latencies *hdrhistogram.Histogram
	failures  int
	err       error
}

// maxFailures is the number of failures after which a connection gives up, because the figure is void already.
const maxFailures = 10

func (w *worker) run() {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	var interval time.Duration
	if w.Rate > 0 {
		interval = time.Duration(float64(w.Connections) / w.Rate * float64(time.Second))
		time.Sleep(interval * time.Duration(w.index) / time.Duration(w.Connections)) // not all at once
	}
	due := time.Now()
	for w.failures < maxFailures {
		if interval > 0 {
			due = due.Add(interval)
			time.Sleep(time.Until(due))
		}
		n := int(w.next.Add(1) - 1)
		start := time.Now()
		if w.Requests > 0 && n >= w.Requests || w.Requests == 0 && start.After(w.end) {
			w.next.Add(-1)
			return
		}
		if err := w.send(n); err != nil {
			w.failures, w.err = w.failures+1, err
			continue
		}
		now := time.Now()
		if start.After(w.begin) && (w.Requests > 0 || now.Before(w.end)) {
			w.err = errors.Join(w.err, w.latencies.RecordValue(int64(now.Sub(start))))
		}
	}
}

// send sends the nth request and reads its answer.
func (w *worker) send(n int) (err error) {
	if w.conn == nil {
		if w.conn, err = net.Dial("tcp", w.Address); err != nil {
			return err
		}
		w.in = bufio.NewReader(w.conn)
	}
	kind := w.Kinds[n%len(w.Kinds)]
	out := append(w.out[:0], kind.Method...)
	out = append(out, ' ')
	out = append(out, kind.Path...)
	out = append(out, " HTTP/1.1\r\nHost: warble\r\nAuthorization: Bearer "...)
	out = append(out, w.tokens[n%len(w.tokens)]...)
	if kind.Cookie != "" {
		out = append(out, "\r\nCookie: "...)
		out = append(out, kind.Cookie...)
	}
	if kind.Body != "" {
		out = append(out, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(kind.Body)), 10)
	}
	out = append(out, "\r\n\r\n"...)
	out = append(out, kind.Body...)
	w.out = out

	_ = w.conn.SetDeadline(time.Now().Add(answerLimit)) // fails only if the connection is closed, which the write reports
	if _, err = w.conn.Write(out); err == nil {
		err = readAnswer(w.in)
	}
	if err != nil {
		w.conn.Close()
		w.conn = nil
	}
	return err
}

// answerLimit is the time after which an answer counts as missing.
const answerLimit = 30 * time.Second

var contentLength = []byte("Content-Length: ")

// readAnswer reads one answer. It returns an error unless the answer is 2xx with a Content-Length.
func readAnswer(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < len("HTTP/1.1 200") || line[9] != '2' {
		body := make([]byte, 400)
		n, _ := io.ReadAtLeast(in, body, len(body)/2)
		return fmt.Errorf("%s%s", line, body[:n])
	}
	length := -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, contentLength); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without a Content-Length")
	}
	_, err = in.Discard(length)
	return err
}
