package wire

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"warble/shared/problem"
)

// Text returns a text in the form that is stored, NFC. The error is a 422 for the member. It refuses a text that is empty, has no
// visible character, has a control character other than tab and line breaks, or overrides the direction of the text around it.
func Text(member, text string) (string, error) { return checked(member, text, refused) }

// Name returns a person's name in the form that is stored: like Text, and without surrounding spaces. It also refuses line breaks, tabs
// and marks of direction, because these can make a name look like another.
func Name(member, text string) (string, error) {
	return checked(member, strings.TrimSpace(text), func(r rune) bool {
		return refused(r) || unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
	})
}

func checked(member, text string, refused func(rune) bool) (string, error) {
	text = norm.NFC.String(text)
	for _, r := range text {
		if refused(r) {
			return "", problem.Invalid.Field(member, "%s must not contain the character U+%04X", member, r)
		}
	}
	if !strings.ContainsFunc(text, visible) {
		return "", problem.Invalid.Field(member, "%s must have at least one visible character", member)
	}
	return text, nil
}

func refused(r rune) bool {
	switch {
	case r == '\t' || r == '\n' || r == '\r':
		return false
	case 0x202A <= r && r <= 0x202E, r == 0xFFFE, r == 0xFEFF, r == 0xFFFF:
		return true
	}
	return unicode.IsControl(r)
}

// visible reports whether a reader sees r. It tests for the invisible characters, because Go's tables do not have the newest emoji.
func visible(r rune) bool {
	switch r {
	case 0x2800, 0x1D159: // Braille without dots, a note without a head
		return false
	}
	return !unicode.In(r, unicode.Z, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
