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

// New returns the routes of the function. It has no features: both arms of an experiment are asked alike.
func New(db *store.DB, tokens *token.Verifier) function.Routes {
	f := &feedback{db, idempotency.NewOnce()}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{"POST /feedback": user(function.Allowed(db.MayPost, function.JSON(f.give)))}
}

type feedback struct {
	db   *store.DB
	once *idempotency.Once
}

func (f *feedback) give(ctx context.Context, q opinion) (idempotency.Answer, error) {
	given, err := q.check()
	if err != nil {
		return idempotency.Answer{}, err
	}
	return f.once.Do(ctx, function.Key(ctx), func(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
		given.UserID = function.Caller(ctx).UserID
		return f.db.CreateFeedback(ctx, given, k, store.Body{Status: http.StatusCreated, Before: `{"data":{"id":"`, After: `"}}`})
	})
}

// opinion is what a user thinks.
type opinion struct {
	Score *int   `json:"score"`
	Text  string `json:"text"`
}

// check returns the opinion as it is stored. An empty text is none.
func (q opinion) check() (store.NewFeedback, error) {
	if q.Score == nil {
		return store.NewFeedback{}, problem.Invalid.Field("score", "score is required")
	}
	if *q.Score < lowest || *q.Score > highest {
		return store.NewFeedback{}, problem.Invalid.Field("score", "score must be from %d to %d, and is %d", lowest, highest, *q.Score)
	}
	given := store.NewFeedback{Score: *q.Score}
	if q.Text == "" {
		return given, nil
	}
	text, err := wire.Text("text", strings.TrimSpace(q.Text))
	if err != nil {
		return store.NewFeedback{}, err
	}
	if length := utf8.RuneCountInString(text); length > maxText {
		return store.NewFeedback{}, problem.Invalid.Field("text", "text must have at most %d characters, and has %d", maxText, length)
	}
	given.Text = text
	return given, nil
}
