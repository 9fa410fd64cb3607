package store_test

import (
	"bytes"
	"errors"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestFeedbackIsStoredOncePerKey(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	give := func(user int64, key string) (idempotency.Answer, error) {
		return db.CreateFeedback(t.Context(), store.NewFeedback{UserID: user, Score: 4, Text: "nice"}, idempotency.Key{Route: "r", Key: key, Fingerprint: []byte("f")}, posted)
	}
	first, err := give(ada, "k")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := give(ada, "k"); err != nil || !bytes.Equal(again.Body, first.Body) || !again.Replayed {
		t.Errorf("%+v %v", again, err)
	}
	if other, err := give(ada, ""); err != nil || bytes.Equal(other.Body, first.Body) {
		t.Errorf("%+v %v", other, err)
	}
	if n := query[int](t, d, `select count(*) from feedback where user_id = $1 and score = 4 and text = 'nice'`, ada); n != 2 {
		t.Errorf("%d rows", n)
	}
	if _, err := give(42, ""); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("no such user: %v", err)
	}
}

// The readout reads feedback, and the function account reads a user's own for the export. The API can only write it.
func TestTheAPICannotReadFeedback(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for login, may := range map[string]bool{pgtest.API: false, pgtest.Auth: true, pgtest.Ops: true} {
		_, err := connect(t, d, login).Exec(t.Context(), `select text from feedback`)
		if (err == nil) != may {
			t.Errorf("%s: %v", login, err)
		}
	}
}
