package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// located are the mistakes of a file, each on a line that begins with the file and, if the mistake says where it is, the line. A field
// that is missing is looked for where it would be: on the line of what it is missing from.
func located(file string, text []byte, err error) error {
	var root yaml.Node
	_ = yaml.Unmarshal(text, &root) // what is no YAML has no fields, and its error says the line
	var all []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			at := file
			if n := lineOf(&root, fieldOf(line)); n > 0 {
				at += ":" + strconv.Itoa(n)
			}
			all = append(all, at+": "+line)
		}
	}
	return errors.New(strings.Join(all, "\n"))
}

// unknownField is how a field that the resource does not have is named.
var unknownField = regexp.MustCompile(`^unknown field "([^"]+)"`)

// fieldOf is the path of the field that a mistake begins with, as metrics.guardrails[0].over; empty for none.
func fieldOf(mistake string) string {
	if found := unknownField.FindStringSubmatch(mistake); found != nil {
		return found[1]
	}
	path, _, found := strings.Cut(mistake, ": ")
	if !found || strings.ContainsAny(path, " \"") {
		return ""
	}
	return path
}

// place is a part of a path: a key, or an index.
var place = regexp.MustCompile(`[^.\[\]]+`)

// lineOf is the line of a field, or of the nearest thing around it that is there; 0 where nothing of the path is. A path begins at the
// top, or in the spec.
func lineOf(root *yaml.Node, path string) int {
	if path == "" || len(root.Content) == 0 {
		return 0
	}
	parts := place.FindAllString(path, -1)
	if line := follow(root.Content[0], parts); line > 0 {
		return line
	}
	return follow(root.Content[0], append([]string{"spec"}, parts...))
}

func follow(at *yaml.Node, parts []string) (line int) {
	for _, part := range parts {
		key, value := child(at, part)
		if value == nil {
			return line
		}
		line, at = key.Line, value
	}
	return line
}

// child is what a node has under a key or an index, and the key.
func child(of *yaml.Node, part string) (key, value *yaml.Node) {
	switch of.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(of.Content); i += 2 {
			if of.Content[i].Value == part {
				return of.Content[i], of.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i < len(of.Content) {
			return of.Content[i], of.Content[i]
		}
	}
	return nil, nil
}

// columns is how wide a terminal is at least.
const columns = 80

// wrapped writes words in lines of at most 80 columns. first stands before them, and spaces of its width before the lines after it.
func wrapped(w io.Writer, first, words string) {
	line, indent := first, strings.Repeat(" ", utf8.RuneCountInString(first))
	empty := true
	for word := range strings.FieldsSeq(words) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			fmt.Fprintln(w, line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// paragraphs breaks the lines of a text anew; an empty line is between two paragraphs.
func paragraphs(text string) string {
	var out []string
	for _, p := range strings.Split(text, "\n\n") {
		var b strings.Builder
		wrapped(&b, "", p)
		out = append(out, strings.TrimSuffix(b.String(), "\n"))
	}
	return strings.Join(out, "\n\n")
}

// redraw replaces what it has written before with new lines, in one write and without clearing the screen first, so that nothing
// flickers. w is a terminal.
func redraw(w io.Writer) func(text string) {
	before := 0
	return func(text string) {
		var out strings.Builder
		if before > 0 {
			fmt.Fprintf(&out, "\x1b[%dA", before)
		}
		before = strings.Count(text, "\n")
		out.WriteString("\r" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J")
		_, _ = w.Write([]byte(out.String())) // the terminal is gone, and whoever looked with it
	}
}
