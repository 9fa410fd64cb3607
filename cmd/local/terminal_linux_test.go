package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// outlet is where a console writes: a pipe or a terminal, and the end at which a program or a person reads.
type outlet struct{ write, read *os.File }

func openPipe(t *testing.T) outlet {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	return outlet{write, read}
}

// openTerminal opens a pseudo-terminal.
func openTerminal(t *testing.T) outlet {
	t.Helper()
	read, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	number, err := unix.IoctlGetInt(int(read.Fd()), unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(int(read.Fd()), unix.TIOCSPTLCK, 0)); err != nil { // 0 unlocks it
		t.Fatal(err)
	}
	write, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return outlet{write, read}
}

// shown returns what was written, and closes the outlet.
func (o outlet) shown(t *testing.T) string {
	t.Helper()
	if err := o.write.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(o.read)
	if err != nil && !errors.Is(err, syscall.EIO) { // the end of a terminal that nobody writes to
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n") // a terminal ends lines like this
}

// took matches the time that a step took.
var took = regexp.MustCompile(`answers {20,}[0-9.]+ s\n`)

// The flags and the kind of output decide what a run shows: a person at a terminal sees the requests, and a program sees every line as it
// is. With -v a person sees every line too. With -json a terminal gets the same bytes as a pipe.
func TestTheFlagsAndTheTerminalDecideWhatIsShown(t *testing.T) {
	const (
		tweet = `{"level":"info","http.method":"POST","http.route":"/2/tweets","http.status_code":201,"timestamp":"2026-11-30T05:22:16Z"}`
		edge  = `{"level":"info","http.method":"POST","http.route":"/2/tweets","http.status_code":201,"duration":13000000,"usr.id":"42","answered_by":"tweet-00001","timestamp":"2026-11-30T05:22:16Z"}`
		mail  = `{"level":"info","to":"ada@example.org","subject":"Verify","link":"http://127.0.0.1:8080/confirm#verify=y","message":"mail"}`
		fatal = "FATAL:  the database system is starting up"
	)
	at := time.Date(2026, 11, 30, 5, 22, 16, 0, time.UTC).Local().Format(time.TimeOnly)
	const (
		greeting  = "\nWarble is starting. The first time takes a few minutes.\n\n"
		mailed    = "mail to ada@example.org: Verify\n  http://127.0.0.1:8080/confirm#verify=y\n"
		stepped   = "  ✓ PostgreSQL answers: its time\n"
		every     = "postgres | " + fatal + "\ntweet    | " + tweet + "\nedge     | " + edge + "\nmail     | " + mail + "\n"
		colourful = "\x1b[31mpostgres | \x1b[0m" + fatal + "\n\x1b[32mtweet    | \x1b[0m" + tweet + "\n\x1b[33medge     | \x1b[0m" + edge + "\n\x1b[34mmail     | \x1b[0m" + mail + "\n"
	)
	request := func(status string) string {
		return at + " " + status + " POST   /2/tweets                  13 ms      42 tweet-00001\n"
	}
	people := greeting + request("201") + mailed + stepped
	inColour := greeting + request("\x1b[32m201\x1b[0m") + mailed + strings.Replace(stepped, "✓", "\x1b[32m✓\x1b[0m", 1)
	for name, tt := range map[string]struct {
		open    func(*testing.T) outlet
		args    []string
		noColor string
		want    string
	}{
		"a terminal":                     {openTerminal, nil, "", inColour},
		"a terminal without colours":     {openTerminal, nil, "1", people},
		"a terminal with -v":             {openTerminal, []string{"-v"}, "", colourful},
		"a terminal with -v, no colours": {openTerminal, []string{"-v"}, "1", every},
		"a terminal with -json":          {openTerminal, []string{"-json"}, "", every},
		"a terminal with both":           {openTerminal, []string{"-v", "-json"}, "", every},
		"a pipe":                         {openPipe, nil, "", every},
		"a pipe with -v":                 {openPipe, []string{"-v"}, "", every},
		"a pipe with -json":              {openPipe, []string{"-json"}, "", every},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			var o options
			flags := flag.NewFlagSet("local", flag.ContinueOnError)
			o.register(flags)
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			out := tt.open(t)
			c := openConsole(out.write, o, nil)
			for _, said := range [][2]string{{"postgres", fatal}, {"tweet", tweet}, {"edge", edge}, {"mail", mail}} {
				if _, err := io.WriteString(c.writerFor(said[0]), said[1]+"\n"); err != nil {
					t.Error(err)
				}
			}
			c.done("PostgreSQL answers", time.Now())
			shown := took.ReplaceAllString(out.shown(t), "answers: its time\n")
			if diff := cmp.Diff(tt.want, shown); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
