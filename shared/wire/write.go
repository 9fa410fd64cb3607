package wire

import (
	"context"
	"net/http"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
)

// Once runs the write of a POST, unless one with the same Idempotency-Key is under way: then it waits for its answer. write
// gets the key that it is to keep with what it writes.
func Once(ctx context.Context, once *function.Once, write func(context.Context, store.Key) (store.Answer, error)) (function.Answer, error) {
	k := store.Key{UserID: function.Caller(ctx).UserID, Route: "POST " + function.Current(ctx).Route}
	k.Key, k.Fingerprint = function.Idempotency(ctx)
	return once.Do(ctx, k.Scope(), k.Fingerprint, func(ctx context.Context) (function.Answer, error) {
		answer, err := write(ctx, k)
		return function.Answer(answer), err
	})
}

// Action is what the caller does about a tweet, as in POST /2/users/{id}/retweets {tweet_id}.
type Action struct {
	TweetID *string `json:"tweet_id"`
	Tweet   int64   `json:"-"`
}

// FromRequest checks that the path's {id} is the caller's, 403 otherwise, and reads the tweet's.
func (q *Action) FromRequest(r *http.Request) error {
	user, err := function.PathID(r, "id")
	if err != nil {
		return err
	}
	if err := function.Own(r.Context(), user); err != nil {
		return err
	}
	if q.TweetID == nil {
		return problem.Invalid.Field("tweet_id", "tweet_id is required")
	}
	if q.Tweet, err = function.ParseID(*q.TweetID); err != nil {
		return problem.Invalid.Field("tweet_id", "tweet_id must be a decimal id of 1 to 19 digits")
	}
	return nil
}

// PlainText returns what people wrote as it is stored, in NFC. The error is a 422 of the member that holds a control
// character other than tab and line breaks, what overrides the direction of the text around it, or no character at all.
func PlainText(member, text string) (string, error) {
	text = norm.NFC.String(text)
	for _, r := range text {
		if refused(r) {
			return "", problem.Invalid.Field(member, "%s must not contain the character U+%04X", member, r)
		}
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
