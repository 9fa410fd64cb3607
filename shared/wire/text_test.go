package wire_test

import (
	"errors"
	"strings"
	"testing"

	"warble/shared/problem"
	"warble/shared/wire"
)

func TestTextMustHaveAVisibleCharacter(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "\t", strings.Repeat("\n", 140), strings.Repeat("\u2800\n", 140), "\u00a0", "\u3000", "\u1680", "\u00ad", "\u034f", "\u061c",
		"\u115f", "\u1160", "\u17b4", "\u180b", "\u180e", "\u200b", "\u200c\u200d", "\u200e\u200f", "\u2028", "\u2060", "\u2063", "\u2800",
		"\u3164", "\ufe0f", "\uffa0", "\U0001d159", "\U0001d173", "\U000e0001", "\U000e0067", "\U000e0100",
	} {
		if got, err := wire.Text("text", text); !errors.Is(err, problem.Invalid) || !strings.Contains(problem.From(err).Detail, "visible") {
			t.Errorf("%+.40q: %q %v", text, got, err)
		}
		if _, err := wire.Name("name", text); !errors.Is(err, problem.Invalid) {
			t.Errorf("a name of %+.40q: %v", text, err)
		}
	}
	for _, text := range []string{"a", "\u200ba", "é", "李", "🏳️\u200d🌈", "👍🏽", "٣", "…", "€", "\uf8ff", "\U0001fae9", "\U0001f6d8", "\u200dक"} {
		if got, err := wire.Text("text", text); err != nil || got != text {
			t.Errorf("%+q: %+q %v", text, got, err)
		}
	}
}

func TestNamesMustHaveOneLineAndNoDirectionMarks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{" Ada\n": "Ada", "cafe\u0301": "café", "Nu\u200dr": "Nu\u200dr"} {
		if got, err := wire.Name("name", name); err != nil || got != want {
			t.Errorf("%+q: %+q %v", name, got, err)
		}
	}
	for _, name := range []string{"a\nb", "a\tb", "a\x00", "\x7fa", "a\u200e", "a\u061c", "a\u202eb", "a\u2066b", "\ufeffa\uffff"} {
		if got, err := wire.Name("name", name); !errors.Is(err, problem.Invalid) || !strings.Contains(problem.From(err).Detail, "U+") {
			t.Errorf("%+q: %+q %v", name, got, err)
		}
	}
}
