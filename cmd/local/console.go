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

// detail is how much a console shows of the processes.
type detail int

const (
	everything detail = iota // every line of every process, unchanged: for programs, and for -v
	requests                 // only the edge's requests, a line for each, and mail
)

// console prints the lines of all processes, each line whole and with the process's name; or, for people, only the requests.
type console struct {
	mu     sync.Mutex
	out    io.Writer
	detail detail
	width  int // of the names
	colour bool
	next   int // number of the next name's colour
}

func newConsole(out io.Writer, d detail, services []*manifest.Service) *console {
	c := &console{out: out, detail: d, width: len("postgres"), colour: terminal(out) && os.Getenv("NO_COLOR") == ""}
	for _, s := range services {
		c.width = max(c.width, len(s.Name()))
	}
	return c
}

// terminal reports whether out is a terminal.
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
	_, _ = io.WriteString(c.out, text) // if this fails, the terminal was closed
}

// say prints a line of words. For people it breaks the line at 80 columns.
func (c *console) say(line string) {
	if c.detail == everything {
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

// done prints for people that a step is done, with the time that it took.
func (c *console) done(step string, since time.Time) {
	if c.detail == everything {
		return
	}
	tick := "✓"
	if c.colour {
		tick = "\x1b[32m✓\x1b[0m"
	}
	c.print(fmt.Sprintf("  %s %-40s %6.1f s\n", tick, step, time.Since(since).Seconds()))
}

// writerFor returns the writer for a process's output, which puts the name before each line. For people it shows the edge's requests and
// mail, and drops the output of the other processes.
func (c *console) writerFor(name string) io.Writer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detail == requests {
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

// access is the edge's log line for a request; see telemetry.Access.
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

// request makes a line of at most 80 columns for people from a log line of the edge. For a request it has the time, status, method, route,
// milliseconds, the end of the user's id, and the end of the revision that answered, which names the arm. Of other log lines it shows only
// warnings and errors.
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
		by = a.Arm + ": " + by // the arm failed, so another revision answered
	}
	text := fmt.Sprintf("%s %s %-6s %s %5d ms %7s %s", a.At.Local().Format(time.TimeOnly), status, a.Method, cut(a.Route, 23), a.Duration.Milliseconds(), end(a.User, 6), strings.TrimRight(cut(by, 19), " "))
	return []byte(strings.TrimRight(text, " ") + "\n")
}

// synthetic is the domain of the email addresses of cmd/load. Hundreds of its people register within seconds, so their mail is not shown.
const synthetic = "@people.example.org"

// letter makes lines for people from a mail: the address, the subject and the link. A local run sends no mail.
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

// cut returns text in a number of columns. A longer text loses its start.
func cut(text string, columns int) string {
	if n := utf8.RuneCountInString(text); n > columns {
		text = "…" + string([]rune(text)[n-columns+1:])
	}
	return fmt.Sprintf("%-*s", columns, text)
}

// end returns the last characters of an id. They are enough to tell a few users apart.
func end(id string, characters int) string {
	if len(id) > characters {
		return "…" + id[len(id)-characters:]
	}
	return id
}

// lines is a writer that prints whole lines to a console.
type lines struct {
	console *console
	write   func(line []byte) []byte // returns what to print for a line

	mu      sync.Mutex
	partial []byte
}

// Write holds back an unfinished line until its end is written.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock() // the broker writes from several goroutines
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
	_, _ = l.console.out.Write(text) // no error, because a closed terminal must not stop the processes
	return len(p), nil
}
