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

// located puts the file and, if the mistake names a field, the line number before each mistake. For a missing field, the line is that
// of the object that should contain it.
func located(file string, text []byte, err error) error {
	var root yaml.Node
	_ = yaml.Unmarshal(text, &root) // if text is not YAML, err is the same error and names the line itself
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

// unknownField matches the API machinery's error for a field that the resource does not have.
var unknownField = regexp.MustCompile(`^unknown field "([^"]+)"`)

// fieldOf returns the path of the field with which a mistake begins, such as metrics.guardrails[0].over. It is empty if the mistake
// names no field.
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

// pathPart matches one part of a path: a key or an index.
var pathPart = regexp.MustCompile(`[^.\[\]]+`)

// lineOf returns the line of a field or, if the field is missing, of the innermost part of its path that exists. It returns 0 if no part
// exists. A path begins at the top of the document, or in its spec.
func lineOf(root *yaml.Node, path string) int {
	if path == "" || len(root.Content) == 0 {
		return 0
	}
	parts := pathPart.FindAllString(path, -1)
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

// child returns the value of a node under a key or an index, and the node of the key. Both are nil if the node has no such child.
func child(parent *yaml.Node, part string) (key, value *yaml.Node) {
	switch parent.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(parent.Content); i += 2 {
			if parent.Content[i].Value == part {
				return parent.Content[i], parent.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i < len(parent.Content) {
			return parent.Content[i], parent.Content[i]
		}
	}
	return nil, nil
}

// columns is the width of the narrowest terminal for which texts are made.
const columns = 80

// wrapped writes words in lines of at most 80 columns. The first line begins with first; the others are indented by its width.
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

// paragraphs wraps the lines of a text again. An empty line separates two paragraphs.
func paragraphs(text string) string {
	var out []string
	for _, p := range strings.Split(text, "\n\n") {
		var b strings.Builder
		wrapped(&b, "", p)
		out = append(out, strings.TrimSuffix(b.String(), "\n"))
	}
	return strings.Join(out, "\n\n")
}

// redraw returns a function that replaces the text that it wrote before. It makes one write and does not clear the screen first, so that
// nothing flickers. w is a terminal.
func redraw(w io.Writer) func(text string) {
	before := 0
	return func(text string) {
		var out strings.Builder
		if before > 0 {
			fmt.Fprintf(&out, "\x1b[%dA", before)
		}
		before = strings.Count(text, "\n")
		out.WriteString("\r" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J")
		_, _ = w.Write([]byte(out.String())) // if this fails, the terminal was closed
	}
}
