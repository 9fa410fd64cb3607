package wire

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"

	"warble/shared/store"
)

// How many results a page has where max_results does not say, and at most.
const (
	TimelineSize = 10
	UsersSize    = 100
	maxResults   = 100
)

// Page is which part of a list to answer with, newest first.
type Page struct {
	size            int
	token           token // zero for the first page
	after, before   int64 // ids above and below; what since_id, start_time, until_id and end_time come to
	excludeRetweets bool
}

// Page reads max_results, pagination_token, since_id, until_id, start_time (inclusive), end_time (exclusive) and exclude.
// size is that of a page where max_results does not say.
func (q *Query) Page(size int) (p Page, err error) {
	if p.size, err = q.size(size); err != nil {
		return p, err
	}
	if p.token, err = parseToken(q.values.Get("pagination_token")); err != nil {
		return p, err
	}
	since, err := q.id("since_id", 0)
	if err != nil {
		return p, err
	}
	until, err := q.id("until_id", math.MaxInt64)
	if err != nil {
		return p, err
	}
	start, err := q.time("start_time", 0)
	if err != nil {
		return p, err
	}
	end, err := q.time("end_time", math.MaxInt64)
	if err != nil {
		return p, err
	}
	exclude, err := q.named("exclude")
	p.after, p.before = max(since, start-1), min(until, end)
	p.excludeRetweets = slices.Contains(exclude, "retweets") // there are no replies to exclude
	return p, err
}

// Rows is what to ask the store for: one row more than the page has, which tells whether there are more.
func (p Page) Rows() store.Page {
	rows := store.Page{Limit: p.size + 1, Before: p.before, After: p.after, ExcludeRetweets: p.excludeRetweets}
	switch {
	case p.token.newer:
		rows.After, rows.Oldest = max(rows.After, p.token.id), true
	case p.token.id != 0:
		rows.Before = min(rows.Before, p.token.id)
	}
	rows.Before = max(rows.Before, 1) // 0 would be no bound
	return rows
}

// Meta is what a list says about itself.
type Meta struct {
	ResultCount   int    `json:"result_count"`
	NewestID      string `json:"newest_id,omitempty"`
	OldestID      string `json:"oldest_id,omitempty"`
	NextToken     string `json:"next_token,omitempty"`     // leads to what is older
	PreviousToken string `json:"previous_token,omitempty"` // leads to what is newer
}

// Cut makes the page of the rows that the store found. id is the one that the list is ordered by.
func Cut[T any](p Page, rows []T, id func(T) int64) ([]T, Meta) {
	more := len(rows) > p.size
	older, newer := more, p.token.id != 0 // a token comes from a page on its other side
	if p.token.newer {
		older, newer = true, more
	}
	if more && p.token.newer {
		rows = rows[1:]
	} else if more {
		rows = rows[:p.size]
	}
	meta := Meta{ResultCount: len(rows)}
	next, previous := min(p.token.id+1, math.MaxInt64-1), max(p.token.id-1, 1) // an empty page's token excluded one row
	if len(rows) > 0 {
		next, previous = id(rows[len(rows)-1]), id(rows[0])
	}
	if older {
		meta.NextToken = token{id: next}.String()
	}
	if newer {
		meta.PreviousToken = token{id: previous, newer: true}.String()
	}
	return rows, meta
}

// Users is one page of users.
func Users(p Page, rows []store.Listed[store.User]) List[User] {
	rows, meta := Cut(p, rows, func(l store.Listed[store.User]) int64 { return l.Position })
	list := List[User]{Data: make([]User, len(rows)), Meta: meta}
	for i, l := range rows {
		list.Data[i] = NewUser(l.Item)
	}
	return list
}

// token is a position in a list: what is older than id, or what is newer. It says nothing that the list does not, so it
// is not signed, and it serves with other filters and sizes than those it came with.
type token struct {
	id    int64
	newer bool
}

const tokenLength = 9 // a byte for the direction, eight for the id

func (t token) String() string {
	raw := make([]byte, 1, tokenLength)
	if t.newer {
		raw[0] = 1
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(raw, uint64(t.id)))
}

func parseToken(text string) (token, error) {
	if text == "" {
		return token{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != tokenLength || raw[0] > 1 {
		return token{}, malformedToken(text)
	}
	id := binary.BigEndian.Uint64(raw[1:])
	if id < 1 || id >= math.MaxInt64 {
		return token{}, malformedToken(text)
	}
	return token{id: int64(id), newer: raw[0] == 1}, nil
}

func malformedToken(text string) error {
	return malformed("pagination_token", text, "a token from an earlier page")
}
