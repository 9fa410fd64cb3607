package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinesAreWholeAndSayWhoseTheyAre(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out, nil)
	edge, tweet := c.named("edge"), c.named("tweet")
	write := func(w io.Writer, text string) {
		if n, err := io.WriteString(w, text); n != len(text) || err != nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	write(edge, "one\ntw")
	write(tweet, "other\n")
	write(edge, "")
	write(edge, "o\n\nthree") // the end of it never comes
	c.print("said by the run itself\n")
	want := "edge     | one\ntweet    | other\nedge     | two\nedge     | \nsaid by the run itself\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLinesOfManyAreNeverMixed(t *testing.T) {
	t.Parallel()
	const writers, lines = 8, 200
	var out bytes.Buffer
	c := newConsole(&out, nil)
	var all sync.WaitGroup
	for n := range writers {
		name := fmt.Sprintf("f%d", n)
		w := c.named(name)
		all.Go(func() {
			for i := range lines {
				text := fmt.Sprintf("%s says %d\n", name, i)
				_, _ = io.WriteString(w, text[:3]) // a process writes where its buffer ends
				_, _ = io.WriteString(w, text[3:])
			}
		})
	}
	all.Wait()
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		prefix, _, _ := strings.Cut(line, " ")
		if want := fmt.Sprintf("%-8s | %s says %d\n", prefix, prefix, next[prefix]); line != want {
			t.Fatalf("%q, want %q", line, want)
		}
		next[prefix]++
	}
	if len(next) != writers {
		t.Errorf("%d writers, want %d", len(next), writers)
	}
}
