package main

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"mvdan.cc/xurls/v2"
)

const (
	maxLink  = 4096 // bytes of the longest link
	maxLabel = 63   // characters of the longest label of a domain
)

// span is the part [start, end) of a text, in bytes.
type span struct{ start, end int }

// links finds the links that X would shorten, by the grammar of twitter-text 3.1: http and https URLs, and texts without a scheme
// that begin with an ASCII or Latin domain under a known top-level domain ("example.com/path", but not "main.go").
//
// It scans once from left to right. A pattern would take more than linear time to find all links in 64 KiB, and an alternation of
// 1500 top-level domains takes long to compile.
func links(text string) []span {
	var found []span
	for from := 0; ; {
		dot := strings.IndexByte(text[from:], '.')
		if dot < 0 {
			return found
		}
		link, next := linkAround(text, from, from+dot)
		if link.start < link.end && link.end-link.start <= maxLink {
			found = append(found, link)
		}
		from = max(link.end, next)
	}
}

// linkAround finds a link that begins at from or later, and whose domain has its first dot at dot. The link is empty if there is
// none. next is the offset after the domain.
func linkAround(text string, from, dot int) (link span, next int) {
	begin := runBefore(text, from, dot, isHost)
	if start := schemeBefore(text, from, begin); start < begin {
		// This run is measured only after a scheme. Without a scheme, next is the end of a shorter run, so that a long run would be
		// measured again and again.
		host := span{begin, runAfter(text, dot, isHost)}
		return linkWithScheme(text, start, host), host.end
	}
	host := span{runBefore(text, from, dot, isPlainHost), runAfter(text, dot, isPlainHost)}
	return linkWithoutScheme(text, host), host.end
}

// linkWithScheme returns the link whose scheme begins at start and whose domain is at the beginning of host. The link is empty if
// there is no domain.
func linkWithScheme(text string, start int, host span) span {
	domain := domainEnd(text, host.start, host.end)
	if domain == host.start {
		return span{}
	}
	return span{start, queryEnd(text, pathEnd(text, portEnd(text, domain)))}
}

// linkWithoutScheme returns the link whose domain is at the beginning of host. The link is empty if there is no domain, or if host
// is part of a mention, a cashtag, a hashtag or a path.
func linkWithoutScheme(text string, host span) span {
	if before, _ := utf8.DecodeLastRuneInString(text[:host.start]); host.start > 0 && strings.ContainsRune("@＠$#＃/", before) {
		return span{}
	}
	domain := domainEnd(text, host.start, host.end)
	if domain == host.start {
		return span{}
	}
	link := span{host.start + strings.LastIndex(text[host.start:domain], "_") + 1, domain} // a domain without a scheme contains no _
	if port := portEnd(text, domain); strings.HasPrefix(text[port:], "/") {                // a port without a path is not part of the link
		link.end = queryEnd(text, pathEnd(text, port))
	}
	return link
}

// runBefore returns the start, from or later, of the run of matching runes that ends before at.
func runBefore(text string, from, at int, is func(rune) bool) int {
	return from + len(strings.TrimRightFunc(text[from:at], is))
}

// runAfter returns the end of the run of matching runes that begins at at.
func runAfter(text string, at int, is func(rune) bool) int {
	return len(text) - len(strings.TrimLeftFunc(text[at:], is))
}

// schemeBefore returns the start of the http:// or https:// that ends before host; host if there is none.
func schemeBefore(text string, from, host int) int {
	for _, scheme := range []string{"https://", "http://"} {
		start := host - len(scheme)
		if start < from || !strings.EqualFold(text[start:host], scheme) {
			continue
		}
		before, _ := utf8.DecodeLastRuneInString(text[:start])
		if start == 0 || !isASCIIAlphanumeric(before) && !strings.ContainsRune("@＠$#＃", before) {
			return start
		}
	}
	return host
}

// domainEnd returns the end of the longest domain name in text[start:end] that begins at start and is under a known top-level
// domain; start if there is none.
func domainEnd(text string, start, end int) int {
	found, parent := start, false // parent: a top-level domain may follow the previous label directly
	for at := start; at < end; {
		label, _, _ := strings.Cut(text[at:end], ".")
		if parent {
			found = max(found, topLevelEnd(text, at, at+len(label)))
		}
		if !isLabel(label) {
			break
		}
		parent = !strings.Contains(label, "_")
		at += len(label) + 1
	}
	return found
}

// topLevelEnd returns the end of the top-level domain that text[start:end] is or begins with; 0 if there is none. Text in another
// script may follow immediately, as in "example.comをみて", but not a character that continues an address or a word.
func topLevelEnd(text string, start, end int) int {
	if ascii := runAfter(text[:end], start, isASCIIHost); ascii > start {
		end = ascii
	}
	if end < len(text) && (text[end] == '@' || text[end] == '+') {
		return 0
	}
	name := strings.ToLower(text[start:end])
	if _, known := slices.BinarySearch(xurls.TLDs, name); !known && !strings.HasPrefix(name, "xn--") {
		return 0
	}
	return end
}

// isLabel reports whether label may be part of a domain name.
func isLabel(label string) bool {
	return label != "" && strings.Trim(label, "-_") == label && utf8.RuneCountInString(label) <= maxLabel
}

// portEnd returns the end of the port that begins at at; at if there is none. pathEnd and queryEnd do the same for a path and a
// query.
func portEnd(text string, at int) int {
	if strings.HasPrefix(text[at:], ":") {
		if end := runAfter(text, at+1, isDigit); end > at+1 {
			return end
		}
	}
	return at
}

func pathEnd(text string, at int) int {
	if !strings.HasPrefix(text[at:], "/") {
		return at
	}
	for end := at; ; {
		r, size := utf8.DecodeRuneInString(text[at:])
		switch {
		case r == '(':
			size = parenthesised(text[at:])
			if size == 0 {
				return end
			}
			end = at + size
		case isWebLetter(r), size > 0 && strings.ContainsRune("+-=_#/", r):
			end = at + size
		case size == 0 || !isPath(r): // a full stop or a comma is part of a path only if more of the path follows
			return end
		}
		at += size
	}
}

// parenthesised returns the length of the balanced parentheses, at most two levels deep, at the beginning of path; 0 if there are
// none.
func parenthesised(path string) int {
	depth := 0
	for i, r := range path {
		switch {
		case r == '(' && depth < 2:
			depth++
		case r == ')' && i > 1:
			if depth--; depth == 0 {
				return i + 1
			}
		case !isPath(r):
			return 0
		}
	}
	return 0
}

func queryEnd(text string, at int) int {
	if !strings.HasPrefix(text[at:], "?") {
		return at
	}
	query := text[at:runAfter(text, at, isQuery)]
	query = strings.TrimRightFunc(query, func(r rune) bool { return !isASCIIAlphanumeric(r) && !strings.ContainsRune("_-&=#/", r) })
	return at + len(query)
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }

func isASCIIAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || isDigit(r)
}

func isASCIIHost(r rune) bool { return r == '-' || isASCIIAlphanumeric(r) }

// isPlainHost reports whether a domain without a scheme may contain a rune.
func isPlainHost(r rune) bool {
	return r == '.' || r == '_' || isASCIIHost(r) || r > unicode.MaxASCII && isLatin(r)
}

// isHost reports whether a domain after a scheme, which may be in any script, may contain a rune.
func isHost(r rune) bool {
	if r <= unicode.MaxASCII {
		return r == '.' || r == '_' || isASCIIHost(r)
	}
	return !unicode.IsSpace(r) && !unicode.Is(unicode.Cf, r)
}

func isWebLetter(r rune) bool {
	return isASCIIAlphanumeric(r) || r > unicode.MaxASCII && (isLatin(r) || unicode.Is(unicode.Cyrillic, r))
}

// isLatin accepts letters with accents, including combining ones, but not the full-width forms of CJK typography.
func isLatin(r rune) bool {
	return 0x0300 <= r && r <= 0x036F || r < 0x2000 && unicode.Is(unicode.Latin, r)
}

func isPath(r rune) bool {
	return isWebLetter(r) || strings.ContainsRune("!*';:=+,.$/%#[]-–_~@|&", r)
}

func isQuery(r rune) bool {
	return isASCIIAlphanumeric(r) || strings.ContainsRune("!?*'@();:&=+$/%#[]-_.,~|", r)
}
