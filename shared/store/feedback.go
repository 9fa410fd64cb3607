package store

import (
	"context"

	"warble/shared/idempotency"
)

// NewFeedback is a user's opinion of Warble, to be stored.
type NewFeedback struct {
	UserID int64
	Score  int    // 1 to 5
	Text   string // empty for none
}

// CreateFeedback writes the feedback and the key's answer in one statement. It publishes no event, because only the readout of
// experiments uses feedback. Errors: as for CreateTweet.
func (db *DB) CreateFeedback(ctx context.Context, f NewFeedback, k idempotency.Key, b Body) (idempotency.Answer, error) {
	k.UserID = f.UserID
	answer, err := db.write(ctx, `
		with new as materialized (
			select next_id() as id
			where `+mayWrite+`
		),`+claim+`,
		feedback as (
			insert into feedback (id, user_id, score, text)
			select new.id, $1, $9, $10
			from new
			where `+claimed+`
		)
		select $6::text || id || $7::text, `+claimed+`
		from new`,
		k, b, f.Score, f.Text)
	if violated(err) == "feedback_user_id_fkey" {
		err = noAccount()
	}
	return answer, err
}
