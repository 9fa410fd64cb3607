package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// console shows progress: on a terminal in one line that is rewritten, and elsewhere in a new line every 10 s.
type console struct {
	out      io.Writer
	width    func() int // of the terminal; nil if out is not a terminal
	interval time.Duration
}

func newConsole(out io.Writer) *console {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &console{out: out, interval: 10 * time.Second}
	}
	return &console{out: out, interval: 500 * time.Millisecond, width: func() int {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
		return 80 // some terminals do not know their width, such as those of scripts
	}}
}

// follow shows the result of line again and again, until stop is called. since is the time since the last call of line.
func (c *console) follow(line func(since time.Duration) string) (stop func()) {
	done := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		ticker := time.NewTicker(c.interval)
		defer ticker.Stop()
		for last := time.Now(); ; {
			select {
			case <-done:
				c.clear()
				return
			case now := <-ticker.C:
				c.show(line(now.Sub(last)))
				last = now
			}
		}
	})
	return func() {
		close(done)
		following.Wait()
	}
}

// show prints one line of ASCII. It cuts a line that is wider than the terminal, because such a line could not be rewritten.
func (c *console) show(line string) {
	if c.width == nil {
		fmt.Fprintln(c.out, line)
		return
	}
	fmt.Fprintf(c.out, "\r\x1b[K%s", line[:min(len(line), c.width()-1)])
}

func (c *console) clear() {
	if c.width != nil {
		fmt.Fprint(c.out, "\r\x1b[K")
	}
}

// progress returns the line with the results since the last line.
func (l *load) progress(at, length, since time.Duration) string {
	r := l.results.recent()
	people := make(map[arm]int)
	for _, p := range l.persons {
		p.mu.Lock()
		people[p.arm]++
		p.mu.Unlock()
	}
	requests := r.requests()
	return fmt.Sprintf("%s of %s  %.0f/s  p99 %.0f ms  errors %.1f %%  in flight %d  people: control %d, treatment %d, none %d",
		min(at, length).Round(time.Second), length, float64(requests)/since.Seconds(), milliseconds(r.latencies.ValueAtQuantile(99)),
		100*float64(r.errors())/float64(max(requests, 1)), len(l.inFlight), people[control], people[treatment], people[none])
}
