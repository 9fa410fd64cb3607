// Package figures writes numbers for people, with about three digits, because further digits change from one run to the next.
package figures

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

var english = message.NewPrinter(language.English)

// Whole writes a count: 12,034.
func Whole(n int64) string { return english.Sprintf("%d", n) }

// Count writes a count of something: 1 community, 12,034 users.
func Count(n int64, noun string) string {
	if n != 1 {
		noun = Plural(noun)
	}
	return Whole(n) + " " + noun
}

// Plural returns the plural of a noun: communities, users, days.
func Plural(noun string) string {
	stem, found := strings.CutSuffix(noun, "y")
	if found && !strings.ContainsAny(stem[len(stem)-1:], "aeiou") {
		return stem + "ies"
	}
	return noun + "s"
}

// Decimal writes three significant digits, and all digits before the point.
func Decimal(v float64) string {
	switch size := math.Abs(v); {
	case size == 0:
		return "0"
	case size >= 1000:
		return Whole(int64(math.Round(v)))
	case size < 1e-4:
		return strconv.FormatFloat(v, 'e', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', max(0, 2-int(math.Floor(math.Log10(size)))), 64)
	}
}

// Signed is Decimal, with a plus sign if the number is above 0.
func Signed(v float64) string {
	if v > 0 {
		return "+" + Decimal(v)
	}
	return Decimal(v)
}

// Range writes an interval; nil stands for an unbounded side.
func Range(lower, upper *float64, figure func(float64) string) string {
	switch {
	case lower != nil && upper != nil:
		return figure(*lower) + " to " + figure(*upper)
	case lower != nil:
		return figure(*lower) + " or more"
	case upper != nil:
		return figure(*upper) + " or less"
	}
	return "not known"
}

// Percent writes a share: .0123 is 1.23%.
func Percent(share float64) string { return trimmed(100*share) + "%" }

// Change writes a relative difference: .041 is +4.1%.
func Change(share float64) string {
	if text := fmt.Sprintf("%+.1f%%", 100*share); text != "-0.0%" && text != "+0.0%" {
		return text
	}
	return "0.0%"
}

// Points writes a difference of shares: .005 is 0.5 points.
func Points(d float64) string {
	if text := trimmed(100 * d); text != "1" {
		return text + " points"
	}
	return "1 point"
}

// P writes a p-value.
func P(p float64) string {
	switch {
	case p < .0001:
		return "<0.0001"
	case p < .001:
		return strconv.FormatFloat(p, 'f', 4, 64)
	}
	return strconv.FormatFloat(p, 'f', 3, 64)
}

func trimmed(v float64) string {
	text := strconv.FormatFloat(v, 'f', 2, 64)
	if text = strings.TrimRight(strings.TrimRight(text, "0"), "."); text == "-0" {
		return "0"
	}
	return text
}
