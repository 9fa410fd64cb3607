package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// console shows how far things are: in one line that is rewritten on a terminal, and in a line every 10 s elsewhere.
type console struct {
	out      io.Writer
	width    func() int // of the terminal, nil where there is none
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
		return 80 // a terminal that does not know, as one of a script
	}}
}

// follow shows what line says, again and again, until stop is called. since is the time since it was last asked.
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

// show prints one line, of ASCII alone. What is wider than the terminal would not be rewritten, so it is cut.
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

// progress is how it went since the last line.
func (l *load) progress(at, length, since time.Duration) string {
	r := l.results.recent()
	of := make(map[arm]int)
	for _, p := range l.persons {
		p.mu.Lock()
		of[p.arm]++
		p.mu.Unlock()
	}
	requests := r.requests()
	return fmt.Sprintf("%s of %s  %.0f/s  p99 %.0f ms  errors %.1f %%  in flight %d  people: control %d, treatment %d, none %d",
		min(at, length).Round(time.Second), length, float64(requests)/since.Seconds(), milliseconds(r.latencies.ValueAtQuantile(99)),
		100*float64(r.errors())/float64(max(requests, 1)), len(l.slots), of[control], of[treatment], of[none])
}
