package main

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"mvdan.cc/xurls/v2"

	"warble/shared/problem"
)

// TestWeight has the distinctive cases of twitter-text's conformance suite (WeightedTweetsCounterTest, with emoji) and of its
// reference implementation, version 3.1.
func TestWeight(t *testing.T) {
	t.Parallel()
	tests := map[string]int{
		"":                             0,
		"This is a test.":              15,
		"a\nb\r\n\tc":                  7,
		"ñ":                            1,
		"n\u0303":                      1, // the same letter in two runes
		"e\u0308\u0308":                2,
		"“quoted” – ‘dash’…":           19,
		"저찀쯿쿿":                         8,
		"\U00010000\U0010ffff":         4,
		"H🐱☺":                          5,
		"🐱☺👨‍👩‍👧‍👦":                    6,
		"👨🏽‍🚀":                         2,
		"👩🏻‍❤️‍💋‍👨🏿":                   2,
		"🏴󠁧󠁢󠁥󠁮󠁧󠁿":                      2,
		"🏳️‍🌈🇬🇧":                       4,
		"1️⃣#⃣":                        4,
		"©®":                           2,
		"️字️":                          6, // selectors that select nothing
		"👨\u0308\u0308":                4,
		"क्\u200dष":                    4, // a joiner in Devanagari joins no emoji
		strings.Repeat("👨‍", 20) + "👨": 62,
		"http://test.com":              23,
		"https://test.com/a/b?c=d#e":   23,
		"HTTPS://TEST.COM":             23,
		"test.com":                     23,
		"Test https://test.com test https://test.com test.com test": 86,
		"test.com.":                                    24,
		"(http://test.com/a_(b))":                      25,
		"http://test.com/a,":                           24,
		"http://test.com:80?y=z.":                      24,
		"test.com?y=z":                                 27, // without a scheme, a query needs a path
		"test.com:80/x?y=z":                            23,
		"http://☃.net/":                                23,
		"http://例え.jp/パス":                              27,
		"看example.com和test.co.jp吧":                     52,
		"http://test_underscore.twitter.com":           23,
		"http://domain-dash_1.foo-cow_4352.com":        37,
		"http://www.-domain4352.com/":                  27,
		"xn--80ak6aa92e.com":                           23,
		"a_b.example.com":                              25,
		"me@example.com and first.name@x.org":          35,
		"@example.com #example.com $example.com":       38,
		"http://localhost http://192.168.0.1/x":        37,
		"ftp://example.com":                            17,
		"main.go node.js 3.14 e.g. etc...":             32,
		"xhttp://example.com":                          19,
		"example.com/path/example.com/more":            23,
		"http://test.com/" + strings.Repeat("a", 4000): 23,
		"http://test.com/" + strings.Repeat("a", 4100): 4116,
		strings.Repeat("a", 64) + ".com":               68,
	}
	for text, want := range tests {
		if got := weight(norm.NFC.String(text)); got != want {
			t.Errorf("%.60q weighs %d, want %d", text, got, want)
		}
	}
}

func TestTweetText(t *testing.T) {
	t.Parallel()
	accepted := map[string]string{
		"two\r\nlines\tand a tab":      "two\r\nlines\tand a tab",
		"cafe\u0301":                   "café",
		strings.Repeat("語", 140):       strings.Repeat("語", 140),
		strings.Repeat("a", 280):       strings.Repeat("a", 280),
		strings.Repeat("👨‍👩‍👧‍👦", 140): strings.Repeat("👨‍👩‍👧‍👦", 140),
		"🇬🇧 \u200eלֹא\u200f":           "🇬🇧 \u200eלֹא\u200f", // marks are no overrides
	}
	for text, want := range accepted {
		if got, _, err := tweetText(text); err != nil || got != norm.NFC.String(want) {
			t.Errorf("%.40q: %.40q, %v", text, got, err)
		}
	}
	refused := []string{
		"", " \n\t\u3000", strings.Repeat("\n", 140), strings.Repeat("\u2800\n", 70), "\u200b", "\u3164", "\ufe0f", strings.Repeat("a", 281), strings.Repeat("語", 141), strings.Repeat("👨‍👩‍👧‍👦", 140) + ".",
		"nul\x00", "bell\a", "\x7f", "next line\u0085", "\u202aleft", "\u202d", "pop\u202e", "\ufeffBOM", "\ufffe", "\uffff",
	}
	for _, text := range refused {
		if _, _, err := tweetText(text); !errors.Is(err, problem.Invalid) {
			t.Errorf("%.40q: %v, want a 422", text, err)
		}
	}
}

func TestTopLevelDomainsAreSorted(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(xurls.TLDs) {
		t.Error("xurls.TLDs is not sorted, and links searches it as if it were")
	}
}

// TestWeightTakesLinearTime uses texts that cost a backtracking or rescanning matcher quadratic time. The largest takes a fraction
// of a second of this process's CPU time, which does not include other processes on a busy machine.
func TestWeightTakesLinearTime(t *testing.T) { //nolint:paralleltest // it counts what the whole process works
	worked := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano())
	}
	for _, part := range []string{"a.co_b.", "a.", ".", "http://a.", "http://", "(", "a.co/(", "a.co?", "é.", "👨‍", "1️⃣", "\u0308", "例.", "-.", "_a.co"} {
		text := strings.Repeat(part, (64<<10)/len(part))
		before := worked()
		weight(text)
		if took := worked() - before; took > time.Second {
			t.Errorf("%q repeated to 64 KiB took %s", part, took)
		}
	}
}

func FuzzTweetText(f *testing.F) {
	for _, seed := range []string{"hello http://a.co/(b)?c", "👨‍👩‍👧‍👦 1️⃣", "a_b.c.com@d", "\u202e", "e\u0301.co"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip("JSON decoding leaves no other")
		}
		stored, length, err := tweetText(text)
		if err != nil {
			if !errors.Is(err, problem.Invalid) {
				t.Errorf("not a 422: %v", err)
			}
			return
		}
		if length < 1 || length > maxWeight {
			t.Errorf("accepted with a weight of %d", length)
		}
		if again, weighs, err := tweetText(stored); err != nil || again != stored || weighs != length {
			t.Errorf("what is stored is another tweet: %q, %d, %v", again, weighs, err)
		}
	})
}
