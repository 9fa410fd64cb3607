package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"warble/shared/problem"
	"warble/shared/wire"
)

// The limits of a tweet, by twitter-text's configuration v3.
const (
	maxWeight  = 280
	linkWeight = 23 // of any link, because X shortens all links to the same length
)

// longestEmoji is the number of code points in the longest sequence that Unicode recommends (a kiss with two skin tones). Longer
// clusters are counted rune by rune. Otherwise a text of any length could be joined into one cluster with a weight of 2.
const longestEmoji = 10

// tweetText returns text as it is stored, in NFC, and its weighted length, 1 to 280. The error is a 422 that says why the text
// cannot be a tweet.
func tweetText(text string) (string, int, error) {
	text, err := wire.Text("text", text)
	if err != nil {
		return "", 0, err
	}
	length := weight(text)
	if length > maxWeight {
		return "", 0, problem.Invalid.Field("text", "text must weigh at most %d characters as X counts them, and weighs %d", maxWeight, length)
	}
	return text, length, nil
}

// weight counts text as X does: 23 for a link, 2 for an emoji sequence, and for any other rune its own weight. It takes linear
// time, because a valid text may be much longer than 280 bytes.
func weight(text string) int {
	total, at := 0, 0
	for _, link := range links(text) {
		total += plainWeight(text[at:link.start]) + linkWeight
		at = link.end
	}
	return total + plainWeight(text[at:])
}

// plainWeight returns the weight of a text without links.
func plainWeight(text string) int {
	total := 0
	for text != "" {
		if text[0] < utf8.RuneSelf && (len(text) == 1 || text[1] < utf8.RuneSelf) {
			total, text = total+1, text[1:] // most text, and never part of a cluster here
			continue
		}
		cluster, rest, _, _ := uniseg.FirstGraphemeClusterInString(text, -1)
		total, text = total+clusterWeight(cluster), rest
	}
	return total
}

// clusterWeight returns the weight of one character as readers see it.
func clusterWeight(cluster string) int {
	if isEmojiSequence(cluster) {
		return 2
	}
	total := 0
	for _, r := range cluster {
		total += runeWeight(r)
	}
	return total
}

// runeWeight returns the weight of a rune by configuration v3's ranges and default, divided by its scale of 100.
func runeWeight(r rune) int {
	switch {
	case r <= 4351, 8192 <= r && r <= 8205, 8208 <= r && r <= 8223, 8242 <= r && r <= 8247:
		return 1
	}
	return 2
}

const (
	joiner       = 0x200D // joins the parts of a sequence
	presentation = 0xFE0F // turns a symbol into an emoji
	keycap       = "\u20E3"
)

// isEmojiSequence reports whether cluster is an emoji of several code points (UTS #51, section 1.4.9). An emoji of one code point
// already weighs 2.
func isEmojiSequence(cluster string) bool {
	first, size := utf8.DecodeRuneInString(cluster)
	rest := cluster[size:]
	if rest == "" || utf8.RuneCountInString(cluster) > longestEmoji {
		return false
	}
	if base, ok := strings.CutSuffix(rest, keycap); ok {
		return strings.ContainsRune("0123456789#*", first) && (base == "" || base == string(rune(presentation)))
	}
	if !isPictographic(first) {
		return false
	}
	for _, r := range rest {
		tag := 0xE0020 <= r && r <= 0xE007F // spells the region of a flag
		if !tag && r != joiner && r != presentation && !isPictographic(r) {
			return false
		}
	}
	return true
}

// isPictographic approximates Unicode's Extended_Pictographic, regional indicators and skin tones: symbols from U+203C on, and the
// two older ones. This is precise enough for runes that uniseg has joined in one cluster.
func isPictographic(r rune) bool {
	return r == '©' || r == '®' || r >= 0x203C && !unicode.IsLetter(r) && !unicode.IsMark(r)
}
