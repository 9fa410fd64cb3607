package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/wire"
)

// export answers with all data of the caller, as one JSON object. It writes while it reads, a thousand rows at a time, so that
// neither memory nor the time limit of a query limits the export. After the first byte, an error can only cut the answer off. No
// client mistakes a JSON object that is cut off for a complete one.
func (a *accounts) export(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	user, credentials, err := a.owner(ctx)
	if err != nil {
		function.Fail(w, r, err)
		return
	}
	sessions, err := a.sessions(ctx, struct{}{})
	if err != nil {
		function.Fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	e := &exporter{w: bufio.NewWriter(w)}
	e.open()
	e.member("user", wire.NewUser(user))
	e.member("community", user.Community)
	e.member("email", credentials.Email)
	e.member("email_verified", credentials.Verified)
	e.member("password_changed_at", wire.Time(credentials.UpdatedAt))
	e.member("sessions", sessions.Data)
	list(ctx, e, "tweets", a.db.OwnTweets, user.ID, func(t store.OwnTweet) (int64, any) {
		tweet := exportedTweet{ID: text(t.ID), CreatedAt: wire.Time(t.CreatedAt), Text: t.Text}
		if t.RetweetOf != 0 {
			tweet.RetweetOf = text(t.RetweetOf)
		}
		return t.ID, tweet
	})
	list(ctx, e, "likes", a.db.OwnLikes, user.ID, func(l store.OwnLike) (int64, any) {
		return l.ID, exportedLike{TweetID: text(l.TweetID), CreatedAt: wire.Time(l.CreatedAt)}
	})
	list(ctx, e, "feedback", a.db.OwnFeedback, user.ID, func(f store.OwnFeedback) (int64, any) {
		return f.ID, exportedFeedback{Score: f.Score, Text: f.Text, CreatedAt: wire.Time(f.CreatedAt)}
	})
	list(ctx, e, "active_days", func(ctx context.Context, id, after int64) ([]time.Time, error) {
		return a.db.OwnDays(ctx, id, time.Unix(after, 0).UTC())
	}, user.ID, func(day time.Time) (int64, any) { return day.Unix(), day.Format(time.DateOnly) })
	if err := e.close(); err != nil {
		function.Current(ctx).Err = err
		panic(http.ErrAbortHandler)
	}
}

// owner returns the caller's account.
func (a *accounts) owner(ctx context.Context) (user store.User, c store.Credentials, err error) {
	id := function.Caller(ctx).UserID
	if c, err = a.db.Credentials(ctx, id); err != nil {
		return user, c, err
	}
	found, err := a.db.Users(ctx, []int64{id})
	if err == nil && len(found) == 1 {
		user = found[0]
	}
	return user, c, err
}

type exportedTweet struct {
	ID        string `json:"id"`
	CreatedAt string `json:"created_at"`
	Text      string `json:"text,omitempty"`
	RetweetOf string `json:"retweet_of,omitempty"`
}

type exportedLike struct {
	TweetID   string `json:"tweet_id"`
	CreatedAt string `json:"created_at"`
}

type exportedFeedback struct {
	Score     int    `json:"score"`
	Text      string `json:"text"`
	CreatedAt string `json:"created_at"`
}

func text(id int64) string { return strconv.FormatInt(id, 10) }

// exporter writes one JSON object. After the first error it writes nothing more.
type exporter struct {
	w     *bufio.Writer
	comma bool
	err   error
}

func (e *exporter) raw(text string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(text)
	}
}

func (e *exporter) value(v any) {
	encoded, err := json.Marshal(v)
	if e.err == nil {
		e.err = err
	}
	e.raw(string(encoded))
}

func (e *exporter) open() { e.raw("{") }

func (e *exporter) name(name string) {
	if e.comma {
		e.raw(",")
	}
	e.comma = true
	e.value(name)
	e.raw(":")
}

func (e *exporter) member(name string, v any) {
	e.name(name)
	e.value(v)
}

func (e *exporter) close() error {
	e.raw("}\n")
	if e.err != nil {
		return e.err
	}
	return e.w.Flush()
}

// list writes a member with all rows that read returns, page by page. put returns a row's position, and the value to write for the
// row.
func list[T any](ctx context.Context, e *exporter, name string, read func(ctx context.Context, userID, after int64) ([]T, error), userID int64, put func(T) (int64, any)) {
	e.name(name)
	e.raw("[")
	for after, first := int64(0), true; e.err == nil; {
		page, err := read(ctx, userID, after)
		if err != nil {
			e.err = err
			return
		}
		for _, row := range page {
			if !first {
				e.raw(",")
			}
			first = false
			var v any
			after, v = put(row)
			e.value(v)
		}
		if len(page) < store.ExportPage {
			break
		}
	}
	e.raw("]")
}
