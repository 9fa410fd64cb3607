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

// links finds what X would shorten, by the grammar of twitter-text 3.1: http and https URLs, and without a scheme what
// begins with an ASCII or Latin domain under a known top-level domain ("example.com/path", but not "main.go").
//
// It scans once from left to right: a pattern would take more than linear time to find all links of 64 KiB, and an
// alternative of 1500 top-level domains takes long to compile.
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

// linkAround looks for a link that begins at from or later and whose domain has its first dot at dot. The link is empty if
// there is none; next is behind the domain.
func linkAround(text string, from, dot int) (link span, next int) {
	begin := runBefore(text, from, dot, isHost)
	if start := schemeBefore(text, from, begin); start < begin {
		host := span{begin, runAfter(text, dot, isHost)} // only now: next would lie before the end of many long runs
		return linkWithScheme(text, start, host), host.end
	}
	host := span{runBefore(text, from, dot, isPlainHost), runAfter(text, dot, isPlainHost)}
	return linkWithoutScheme(text, host), host.end
}

// linkWithScheme returns the link whose scheme begins at start and whose domain begins host. It is empty if no domain does.
func linkWithScheme(text string, start int, host span) span {
	domain := domainEnd(text, host.start, host.end)
	if domain == host.start {
		return span{}
	}
	return span{start, queryEnd(text, pathEnd(text, portEnd(text, domain)))}
}

// linkWithoutScheme returns the link whose domain begins host. It is empty if no domain does, or if host is part of a mention,
// a cashtag, a hashtag or a path.
func linkWithoutScheme(text string, host span) span {
	if before, _ := utf8.DecodeLastRuneInString(text[:host.start]); host.start > 0 && strings.ContainsRune("@＠$#＃/", before) {
		return span{}
	}
	domain := domainEnd(text, host.start, host.end)
	if domain == host.start {
		return span{}
	}
	link := span{host.start + strings.LastIndex(text[host.start:domain], "_") + 1, domain} // _ is in no domain without a scheme
	if port := portEnd(text, domain); strings.HasPrefix(text[port:], "/") {                // without a path, a port is no part of it
		link.end = queryEnd(text, pathEnd(text, port))
	}
	return link
}

// runBefore returns where the run of such runes begins that ends before at, from at the earliest.
func runBefore(text string, from, at int, is func(rune) bool) int {
	return from + len(strings.TrimRightFunc(text[from:at], is))
}

// runAfter returns where the run of such runes ends that begins at at.
func runAfter(text string, at int, is func(rune) bool) int {
	return len(text) - len(strings.TrimLeftFunc(text[at:], is))
}

// schemeBefore returns where the http:// or https:// begins that ends before host, and host where there is none.
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

// domainEnd returns the end of the longest domain name in text[start:end] that begins at start and is under a known
// top-level domain, and start where there is none.
func domainEnd(text string, start, end int) int {
	found, parent := start, false // parent: the label before may stand directly under a top-level domain
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

// topLevelEnd returns the end of the top-level domain that text[start:end] is or begins with, and 0 where there is none.
// Other script may follow it at once, as in "example.comをみて", but not what makes an address or another word of it.
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

// portEnd returns the end of the port that begins at at, and at where there is none. So do pathEnd and queryEnd.
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
		case size == 0 || !isPath(r): // a full stop or a comma is part of a path only where more of it follows
			return end
		}
		at += size
	}
}

// parenthesised returns the length of the balanced parentheses, at most two deep, that path begins with, else 0.
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

// isPlainHost is for domains without a scheme.
func isPlainHost(r rune) bool {
	return r == '.' || r == '_' || isASCIIHost(r) || r > unicode.MaxASCII && isLatin(r)
}

// isHost is for domains behind a scheme, which may be in any script.
func isHost(r rune) bool {
	if r <= unicode.MaxASCII {
		return r == '.' || r == '_' || isASCIIHost(r)
	}
	return !unicode.IsSpace(r) && !unicode.Is(unicode.Cf, r)
}

func isWebLetter(r rune) bool {
	return isASCIIAlphanumeric(r) || r > unicode.MaxASCII && (isLatin(r) || unicode.Is(unicode.Cyrillic, r))
}

// isLatin is for letters with accents, combining ones too; the full-width forms of CJK typography are not meant.
func isLatin(r rune) bool {
	return 0x0300 <= r && r <= 0x036F || r < 0x2000 && unicode.Is(unicode.Latin, r)
}

func isPath(r rune) bool {
	return isWebLetter(r) || strings.ContainsRune("!*';:=+,.$/%#[]-–_~@|&", r)
}

func isQuery(r rune) bool {
	return isASCIIAlphanumeric(r) || strings.ContainsRune("!?*'@();:&=+$/%#[]-_.,~|", r)
}
