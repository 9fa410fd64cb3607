package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// On a terminal one line is rewritten; it is never wider than the terminal, and is cleared at the end. Elsewhere each line stays.
func TestProgressIsOneLineOnATerminal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		console console
		want    string
	}{
		"terminal": {console{interval: time.Second, width: func() int { return 5 }}, "\r\x1b[Kat 1\r\x1b[Kat 1\r\x1b[Kat 1\r\x1b[K"},
		"pipe":     {console{interval: time.Second}, "at 1s, a line\nat 1s, a line\nat 1s, a line\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			tt.console.out = &out
			stop := tt.console.follow(func(since time.Duration) string { return "at " + since.String() + ", a line" })
			time.Sleep(3500 * time.Millisecond)
			stop()
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		})
	}
}

func TestTheLineOfProgress(t *testing.T) {
	t.Parallel()
	m := ordinary
	m.people = 3
	people := inside(m)
	people[0].arm, people[1].arm = control, treatment
	l := newLoad(newPopulation(m), &client{}, people, "likes", 8)
	l.inFlight <- struct{}{}
	for range 19 {
		l.results.record(home, control, "200", 30*time.Millisecond)
	}
	l.results.drop(post, none)
	for _, want := range []string{
		"1m30s of 5m0s  2/s  p99 30 ms  errors 5.0 %  in flight 1  people: control 1, treatment 1, none 1",
		"0/s  p99 0 ms  errors 0.0 %", // no requests since the last line
	} {
		if got := l.progress(90*time.Second, 5*time.Minute, 10*time.Second); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
