package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"warble/shared/manifest"
)

// console prints the lines of all processes to one place, each whole and behind its process's name.
type console struct {
	mu     sync.Mutex
	out    io.Writer
	width  int
	colour bool
	next   int
}

func newConsole(out io.Writer, services []*manifest.Service) *console {
	c := &console{out: out, width: len("postgres")}
	for _, s := range services {
		c.width = max(c.width, len(s.Name()))
	}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		c.colour = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
	}
	return c
}

func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.out, text) // a closed terminal has nobody to tell
}

// named returns a writer whose lines are prefixed.
func (c *console) named(name string) io.Writer {
	c.mu.Lock()
	defer c.mu.Unlock()
	prefix := fmt.Sprintf("%-*s | ", c.width, name)
	if c.colour {
		prefix = fmt.Sprintf("\x1b[3%dm%s\x1b[0m", 1+c.next%6, prefix)
		c.next++
	}
	return &lines{console: c, prefix: []byte(prefix)}
}

type lines struct {
	console *console
	prefix  []byte
	partial []byte
}

// Write holds an unfinished line back until its end comes. One process has one writer, so it is not called twice at once.
func (l *lines) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	end := bytes.LastIndexByte(l.partial, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	var text []byte
	for line := range bytes.Lines(l.partial[:end]) {
		text = append(append(text, l.prefix...), line...)
	}
	l.partial = append(l.partial[:0], l.partial[end:]...)
	l.console.mu.Lock()
	defer l.console.mu.Unlock()
	_, _ = l.console.out.Write(text) // a closed terminal must not stop the processes
	return len(p), nil
}
