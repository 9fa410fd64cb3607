package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
)

// checkWidth reports each line that is wider than a terminal.
func checkWidth(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > columns {
			t.Errorf("%s: %d columns: %s", what, utf8.RuneCountInString(line), line)
		}
	}
}

func TestEveryCommandHasHelpIn80ColumnsWithAnExample(t *testing.T) {
	t.Parallel()
	root := newSettings().root()
	all := 0
	for _, c := range append(root.Commands(), root) {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		all++
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		checkWidth(t, c.Name(), out.String())
		if c != root && !strings.Contains(c.Example, "  kn experiment "+c.Name()) {
			t.Errorf("%s has no example: %q", c.Name(), c.Example)
		}
		if c.Short == "" {
			t.Errorf("%s has no short description", c.Name())
		}
	}
	if all < 19 {
		t.Errorf("%d commands: expected more", all)
	}
}

func TestListAndStatusFit80Columns(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	e := likes(experiment.Running)
	e.Name = "a-name-of-thirty-characters-in"
	e.Status.Lift = "+104.1% (+101.0% to +107.3%)"
	e.Status.Message = strings.Repeat("more requests in each arm, and ", 6)
	a.keep(e)
	for _, args := range [][]string{{"list"}, {"status", e.Name}} {
		stdout, stderr, code := a.run(t, args...)
		if code != 0 || !strings.Contains(stdout, "+104.1%") || strings.Count(strings.Join(strings.Fields(stdout), " "), "more requests in each arm") != 6 {
			t.Errorf("%s: %d %s\n%s", args, code, stderr, stdout)
		}
		checkWidth(t, args[0], stdout)
	}
}

// TestRedrawReplacesTheTextBefore: the second text replaces all of the first. Each text is one write, so that nobody sees half of it.
func TestRedrawReplacesTheTextBefore(t *testing.T) {
	t.Parallel()
	var w counted
	say := redraw(&w)
	say("one\na long second line\nthree\n")
	say("1\n2\n")
	if diff := cmp.Diff([]string{"1", "2"}, screen(w.String())); diff != "" || w.writes != 2 {
		t.Errorf("%d writes\n%s", w.writes, diff)
	}
}

type counted struct {
	bytes.Buffer

	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(p)
}

// screen returns the lines that a terminal shows. It knows line feeds, carriage returns, cursor up, and how to erase to the end of a line
// and of the screen.
func screen(text string) (lines []string) {
	lines = []string{""}
	y, x := 0, 0
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "\x1b["):
			end := i + strings.IndexAny(text[i:], "AKJ")
			switch text[end] {
			case 'A':
				y -= int(text[end-1] - '0')
			case 'K':
				lines[y] = lines[y][:x]
			case 'J':
				lines[y], lines = lines[y][:x], lines[:y+1]
			}
			i = end
		case text[i] == '\n':
			if y, x = y+1, 0; y == len(lines) {
				lines = append(lines, "")
			}
		case text[i] == '\r':
			x = 0
		default:
			lines[y] = lines[y][:x] + text[i:i+1] + lines[y][min(len(lines[y]), x+1):]
			x++
		}
	}
	return lines[:len(lines)-1]
}
