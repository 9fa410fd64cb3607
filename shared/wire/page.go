package wire

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"

	"warble/shared/feature"
	"warble/shared/store"
)

// The number of results in a page: the default of max_results, and its limit.
const (
	TimelineSize = 10
	UsersSize    = 100
	maxResults   = 100
)

// Page says which part of a list the answer has, newest first.
type Page struct {
	size            int
	token           token // zero for the first page
	after, before   int64 // only ids above the one and below the other, from since_id, start_time, until_id and end_time
	excludeRetweets bool
	horizon         int64 // store.DB.Horizon, 0 for none
	reader          int64 // whose rows above it are listed as well
}

// AsOf returns the page of a list that reader reads while the store's horizon is at horizon. A caller who reads on from its newest_id or
// previous_token gets every row once, because neither passes the horizon. Above the horizon only the reader's own rows are listed.
func (p Page) AsOf(horizon, reader int64) Page {
	p.horizon, p.reader = horizon, reader
	if p.token.settled {
		p.horizon = max(p.horizon, p.token.id-1) // another process may know of more than this one
	}
	return p
}

// Page reads max_results, pagination_token, since_id, until_id, start_time (inclusive), end_time (exclusive) and exclude.
// size is the default of max_results.
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

// Rows returns what to ask the store for: one row more than the page has, to find out whether there are more.
func (p Page) Rows() store.Page {
	rows := store.Page{
		Limit: p.size + 1, Before: p.before, After: p.after, ExcludeRetweets: p.excludeRetweets, Horizon: p.horizon, Reader: p.reader,
	}
	switch {
	case p.token.newer:
		rows.After, rows.Oldest = max(rows.After, p.token.id), true
	case p.token.id != 0:
		rows.Before = min(rows.Before, p.token.id)
	}
	rows.Before = max(rows.Before, 1) // 0 would be no bound
	return rows
}

// Meta describes a page of a list.
type Meta struct {
	ResultCount   int    `json:"result_count"`
	NewestID      string `json:"newest_id,omitempty"`
	OldestID      string `json:"oldest_id,omitempty"`
	NextToken     string `json:"next_token,omitempty"`     // leads to what is older
	PreviousToken string `json:"previous_token,omitempty"` // leads to what is newer
}

// Cut makes a page from the rows that the store returned. id returns the id by which the list is ordered.
func Cut[T any](p Page, rows []T, id func(T) int64) ([]T, Meta) {
	more := len(rows) > p.size
	switch {
	case more && p.token.newer:
		rows = rows[1:]
		for len(rows) > 0 && !p.settled(id(rows[0])) {
			rows = rows[1:] // the page after this one begins at the horizon, and has them
		}
		more = len(rows) > 0
	case more:
		rows = rows[:p.size]
	}
	older, newer := more, p.token.id != 0 // a page that has a token has another page on its other side, from which the token comes
	if p.token.newer {
		older, newer = true, more
	}
	meta := Meta{ResultCount: len(rows)}
	// The token that led to an empty page left out the row with its id. The tokens of this page include that row.
	next, previous := min(p.token.id+1, math.MaxInt64-1), max(p.token.id-1, 1)
	if len(rows) > 0 {
		next, previous = id(rows[len(rows)-1]), id(rows[0])
	}
	if older {
		meta.NextToken = token{id: next, settled: p.settled(next - 1)}.String()
	}
	if newer {
		if !p.settled(previous) {
			previous = p.horizon
		}
		meta.PreviousToken = token{id: previous, newer: true}.String()
	}
	return rows, meta
}

// newest returns the id of the newest row below which no further row can appear. If there is none, it returns the horizon, or the id
// that the page had to be newer than.
func (p Page) newest(rows []store.Tweet) int64 {
	for _, t := range rows {
		if p.settled(t.ID) {
			return t.ID
		}
	}
	return max(p.horizon, p.after)
}

func (p Page) settled(id int64) bool { return p.horizon == 0 || id <= p.horizon }

// Users is one page of users.
func Users(p Page, rows []store.Listed[store.User]) List[User] {
	rows, meta := Cut(p, rows, func(l store.Listed[store.User]) int64 { return l.Position })
	list := List[User]{Data: make([]User, len(rows)), Meta: meta}
	for i, l := range rows {
		list.Data[i] = NewUser(l.Item)
	}
	return list
}

// CutTweets is Cut for tweets by their own ids. It also says which are the newest and the oldest.
func CutTweets(p Page, rows []store.Tweet) ([]store.Tweet, Meta) {
	rows, meta := Cut(p, rows, func(t store.Tweet) int64 { return t.ID })
	if len(rows) > 0 {
		meta.NewestID, meta.OldestID = ID(p.newest(rows)), ID(rows[len(rows)-1].ID)
	}
	return rows, meta
}

// Tweets is one page of tweets, which Cut or CutTweets made, and what they refer to. features are the caller's.
func Tweets(rows []store.Tweet, meta Meta, related store.Related, features feature.Set) List[Tweet] {
	list := List[Tweet]{Data: make([]Tweet, len(rows)), Includes: NewIncludes(related, features), Meta: meta}
	for i, t := range rows {
		list.Data[i] = NewTweet(t, features)
	}
	return list
}

// token is a position in a list: rows older than id, or rows newer than id. It reveals nothing that the list does not show, so it is not
// signed. It also works with other filters and sizes than those of the page that contained it.
type token struct {
	id    int64
	newer bool
	// settled says that every row older than id is visible already. A token for newer rows needs no such mark, because its id
	// is never above the horizon.
	settled bool
}

const tokenLength = 9 // a byte for the direction, eight for the id

// directions are the first byte of a token.
var directions = []token{{settled: true}, {newer: true}, {}}

func (t token) String() string {
	direction := slices.Index(directions, token{newer: t.newer, settled: t.settled && !t.newer})
	raw := append(make([]byte, 0, tokenLength), byte(direction)) //nolint:gosec // one of three
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(raw, uint64(t.id)))
}

func parseToken(text string) (token, error) {
	if text == "" {
		return token{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != tokenLength || int(raw[0]) >= len(directions) {
		return token{}, malformedToken(text)
	}
	id := binary.BigEndian.Uint64(raw[1:])
	if id < 1 || id >= math.MaxInt64 {
		return token{}, malformedToken(text)
	}
	t := directions[raw[0]]
	t.id = int64(id)
	return t, nil
}

func malformedToken(text string) error {
	return malformed("pagination_token", text, "a token from an earlier page")
}
