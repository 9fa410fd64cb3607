package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"warble/shared/manifest"
)

// speech is what a console says of the processes.
type speech int

const (
	everything speech = iota // every line of each, as it is: for programs, and for -v
	requests                 // a line for each request, of the edge alone
)

// console prints the lines of all processes to one place, each whole and behind its process's name; or for people, what
// requests came.
type console struct {
	mu     sync.Mutex
	out    io.Writer
	speech speech
	width  int
	colour bool
	next   int
}

func newConsole(out io.Writer, s speech, services []*manifest.Service) *console {
	c := &console{out: out, speech: s, width: len("postgres"), colour: terminal(out) && os.Getenv("NO_COLOR") == ""}
	for _, s := range services {
		c.width = max(c.width, len(s.Name()))
	}
	return c
}

// terminal tells whether people see what is written.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = io.WriteString(c.out, text) // a closed terminal has nobody to tell
}

// say prints a line of words, for people in 80 columns.
func (c *console) say(line string) {
	if c.speech == everything {
		c.print(line + "\n")
		return
	}
	var text strings.Builder
	column := 0
	for word := range strings.FieldsSeq(line) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > 80:
			text.WriteString("\n  ")
			column = 2
		default:
			text.WriteByte(' ')
			column++
		}
		text.WriteString(word)
		column += n
	}
	c.print(text.String() + "\n")
}

// done ticks a step off for people, with the time that it took.
func (c *console) done(step string, since time.Time) {
	if c.speech == everything {
		return
	}
	tick := "✓"
	if c.colour {
		tick = "\x1b[32m✓\x1b[0m"
	}
	c.print(fmt.Sprintf("  %s %-40s %6.1f s\n", tick, step, time.Since(since).Seconds()))
}

// named returns a writer whose lines are prefixed. For people it keeps the edge's requests and mail, and drops what others say.
func (c *console) named(name string) io.Writer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.speech == requests {
		switch name {
		case "edge":
			return &lines{console: c, write: c.request}
		case "mail":
			return &lines{console: c, write: letter}
		}
		return io.Discard
	}
	prefix := fmt.Sprintf("%-*s | ", c.width, name)
	if c.colour {
		prefix = fmt.Sprintf("\x1b[3%dm%s\x1b[0m", 1+c.next%6, prefix)
		c.next++
	}
	return &lines{console: c, write: func(line []byte) []byte { return append([]byte(prefix), line...) }}
}

// access is what a line of the edge says of a request; see telemetry.Access.
type access struct {
	At       time.Time     `json:"timestamp"`
	Status   int           `json:"http.status_code"`
	Method   string        `json:"http.method"`
	Route    string        `json:"http.route"`
	Duration time.Duration `json:"duration"`
	User     string        `json:"usr.id"`
	Arm      string        `json:"variant"`
	Revision string        `json:"answered_by"`

	Level   string `json:"level"`
	Message string `json:"message"`
	Error   string `json:"error.message"`
}

// request is a line for people, of 80 columns: time, status, method, route, milliseconds, the end of the user's id, the arm, and
// the revision that answered, whose end is its arm's name and its number.
// Of what is no request only warnings are said.
func (c *console) request(line []byte) []byte {
	var a access
	if json.Unmarshal(line, &a) != nil {
		return nil
	}
	if a.Method == "" {
		if a.Level == "info" || a.Level == "debug" {
			return nil
		}
		return fmt.Appendf(nil, "%s edge: %s\n", a.At.Local().Format(time.TimeOnly), cmp.Or(a.Message, a.Error, a.Level))
	}
	status := fmt.Sprint(a.Status)
	if c.colour {
		shade := 32
		if a.Status >= 400 {
			shade = 33
		}
		if a.Status >= 500 {
			shade = 31
		}
		status = fmt.Sprintf("\x1b[%dm%d\x1b[0m", shade, a.Status)
	}
	by := a.Revision
	if !strings.Contains(by, a.Arm) {
		by = a.Arm + ": " + by // the arm has failed, and another has answered
	}
	text := fmt.Sprintf("%s %s %-6s %s %5d ms %7s %s", a.At.Local().Format(time.TimeOnly), status, a.Method, cut(a.Route, 23), a.Duration.Milliseconds(), end(a.User, 6), strings.TrimRight(cut(by, 19), " "))
	return []byte(strings.TrimRight(text, " ") + "\n")
}

// synthetic is where the people of cmd/load have their mail. Hundreds register within seconds, and nobody reads it.
const synthetic = "@people.example.org"

// letter is a mail that would have been sent, for people: to whom, what about, and its link.
func letter(line []byte) []byte {
	var l struct {
		To      string `json:"to"`
		Subject string `json:"subject"`
		Link    string `json:"link"`
	}
	if json.Unmarshal(line, &l) != nil || l.Link == "" || strings.HasSuffix(l.To, synthetic) {
		return nil
	}
	return fmt.Appendf(nil, "mail to %s: %s\n  %s\n", l.To, l.Subject, l.Link)
}

// cut is text in so many columns; where some is left out, the start is.
func cut(text string, columns int) string {
	if n := utf8.RuneCountInString(text); n > columns {
		text = "…" + string([]rune(text)[n-columns+1:])
	}
	return fmt.Sprintf("%-*s", columns, text)
}

// end is the last characters of an id, by which people tell a few apart.
func end(id string, characters int) string {
	if len(id) > characters {
		return "…" + id[len(id)-characters:]
	}
	return id
}

type lines struct {
	console *console
	write   func(line []byte) []byte // what is printed for a line

	mu      sync.Mutex
	partial []byte
}

// Write holds an unfinished line back until its end comes.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock() // the broker writes for each event that it takes at once
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	end := bytes.LastIndexByte(l.partial, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	var text []byte
	for line := range bytes.Lines(l.partial[:end]) {
		text = append(text, l.write(line)...)
	}
	l.partial = append(l.partial[:0], l.partial[end:]...)
	l.console.mu.Lock()
	defer l.console.mu.Unlock()
	_, _ = l.console.out.Write(text) // a closed terminal must not stop the processes
	return len(p), nil
}
