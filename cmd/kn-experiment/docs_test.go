package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fenced  = regexp.MustCompile("(?s)```[a-z]*\n(.*?)```")
	span    = regexp.MustCompile("`([^`]+)`")
	command = regexp.MustCompile(`\bkn[ -]experiment +(\w[^|;&\n]*)`)
	word    = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
)

// Every command in the pages is a verb that exists, with flags that it has.
func TestThePagesNameOnlyVerbsAndFlagsThatExist(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"README.md", "CHANGELOG.md", "docs/*.md", "docs/runbooks/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var code []string
		for _, found := range fenced.FindAllSubmatch(text, -1) {
			code = append(code, string(found[1]))
		}
		for _, found := range span.FindAllSubmatch(fenced.ReplaceAll(text, nil), -1) {
			code = append(code, strings.Join(strings.Fields(string(found[1])), " ")) // a command may be broken into two lines
		}
		for _, found := range command.FindAllStringSubmatch(strings.Join(code, "\n"), -1) {
			checked++
			if err := parses(found[1]); err != nil {
				t.Errorf("%s: kn experiment %s: %v", filepath.Base(file), found[1], err)
			}
		}
	}
	if checked < 30 {
		t.Errorf("%d commands: expected more", checked)
	}
	for _, wrong := range []string{"halt likes", "stop likes --now", "stop likes other"} {
		if parses(wrong) == nil {
			t.Errorf("kn experiment %s is accepted", wrong)
		}
	}
}

// parses returns the mistake in a command's words, up to a comment. A command without arguments may be only a mention, as in a list of
// verbs, so its missing arguments are no mistake.
func parses(text string) error {
	words := word.FindAllString(text, -1)
	if comment := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "#") }); comment >= 0 {
		words = words[:comment]
	}
	c, rest, err := newSettings().root().Find(words)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil || c.Flags().NArg() == 0 {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}
