package main

import (
	"context"
	"net/http"
	"strings"
	"unicode/utf8"

	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/token"
	"warble/shared/wire"
)

const (
	lowest, highest = 1, 5 // score
	maxText         = 2000 // characters
)

// New returns the routes of the function. Feedback depends on no feature, so that both arms of an experiment are asked in the same way.
func New(db *store.DB, tokens *token.Verifier) function.Routes {
	f := &feedback{db, idempotency.NewOnce()}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{"POST /feedback": user(function.Allowed(db.MayPost, function.JSON(f.create)))}
}

type feedback struct {
	db   *store.DB
	once *idempotency.Once
}

func (f *feedback) create(ctx context.Context, q opinion) (idempotency.Answer, error) {
	newFeedback, err := q.check()
	if err != nil {
		return idempotency.Answer{}, err
	}
	return f.once.Do(ctx, function.Key(ctx), func(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
		newFeedback.UserID = function.Caller(ctx).UserID
		return f.db.CreateFeedback(ctx, newFeedback, k, store.Body{Status: http.StatusCreated, Before: `{"data":{"id":"`, After: `"}}`})
	})
}

// opinion is a user's feedback.
type opinion struct {
	Score *int   `json:"score"`
	Text  string `json:"text"`
}

// check returns the opinion in the form that is stored. An empty text means no text.
func (q opinion) check() (store.NewFeedback, error) {
	if q.Score == nil {
		return store.NewFeedback{}, problem.Invalid.Field("score", "score is required")
	}
	if *q.Score < lowest || *q.Score > highest {
		return store.NewFeedback{}, problem.Invalid.Field("score", "score must be from %d to %d, and is %d", lowest, highest, *q.Score)
	}
	stored := store.NewFeedback{Score: *q.Score}
	if q.Text == "" {
		return stored, nil
	}
	text, err := wire.Text("text", strings.TrimSpace(q.Text))
	if err != nil {
		return store.NewFeedback{}, err
	}
	if length := utf8.RuneCountInString(text); length > maxText {
		return store.NewFeedback{}, problem.Invalid.Field("text", "text must have at most %d characters, and has %d", maxText, length)
	}
	stored.Text = text
	return stored, nil
}
