package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"warble/shared/idempotency"
	"warble/shared/problem"
)

// Body is the answer that a write is to give, open where the new row's id goes, which only PostgreSQL knows. The bytes
// are stored with the key, in the same statement as the row.
type Body struct {
	Status        int
	Before, After string
}

// claim is the part of a writing statement that takes the key: it yields a row where the key is new or no longer counts,
// and none where another request has it or there is no key. PostgreSQL makes it wait for a statement that is just
// inserting the same key. The statement has the id in a CTE called new, and these arguments:
// $1 user, $2 route, $3 key, $4 fingerprint, $5 status, $6 before, $7 after, $8 session. new, or source, asks mayWrite.
const claim = claimInsert + `$6 || new.id || $7
		from new` + claimUpdate

// claimWhole is claim in a statement whose answer names no new row. What it writes about is in a CTE called source, which
// is empty where that is not there.
const claimWhole = claimInsert + `$6::text || $7::text
		from source` + claimUpdate

const (
	claimInsert = `
	claim as (
		insert into idempotency_keys as kept (user_id, route, key, fingerprint, status, body)
		select $1, $2, $3, $4, $5, `
	claimUpdate = `
		where $3 <> ''
		on conflict (user_id, route, key) do update
		set fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body, created_at = now()
		where kept.created_at < now() - interval '24 hours'
		returning 1
	)`
)

// mayWrite, in the where of a statement's first CTE, ends a statement with claim unless its author may write.
const mayWrite = `check_author($1, $8)`

// claimed is true in a statement with claim where the write may go on.
const claimed = `($3 = '' or exists (select from claim))`

func args(k idempotency.Key, b Body, more ...any) []any {
	return append([]any{k.UserID, k.Route, k.Key, k.Fingerprint, b.Status, b.Before, b.After, k.Session}, more...)
}

// write runs a statement with claim, which selects the answer's body and claimed: no row where what it writes about is not
// there. Errors: problem.NotFound for that, problem.Invalid where the key was used for something else, problem.Conflict
// where the first request with it is still running, and a constraint that was violated.
func (db *DB) write(ctx context.Context, sql string, k idempotency.Key, b Body, more ...any) (idempotency.Answer, error) {
	answer := idempotency.Answer{Status: b.Status}
	var claimed bool
	err := db.one(ctx, sql, args(k, b, more...), &answer.Body, &claimed)
	there := err == nil
	switch {
	case there && claimed:
		return answer, nil
	case !there && !errors.Is(err, problem.NotFound):
		return idempotency.Answer{}, waited(k, err)
	}
	// Another request has the key; or nothing is there, but may have been when the first request with the key came.
	if answer, err = db.replay(ctx, k); there && errors.Is(err, problem.NotFound) {
		err = keyLost()
	}
	return answer, err
}

// waited words the failure of a statement whose claim waited for another with the same key until lock_timeout.
func waited(k idempotency.Key, err error) error {
	if k.Key != "" && code(err) == lockNotAvailable {
		return idempotency.StillRunning(time.Second).Because(err)
	}
	return err
}

// keyLost is the problem of a claim that found the key taken and then nothing stored: the row was swept between the two
// statements. The client's next try is a first one.
func keyLost() error {
	return problem.Conflict.Detail("the first request with this Idempotency-Key has just ended without an answer").After(time.Second)
}

// replay returns the answer stored for a key that a write could not claim, and problem.NotFound where there is none. It
// is a statement of its own, because it needs a snapshot taken after the winner committed.
func (db *DB) replay(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
	var (
		answer      = idempotency.Answer{Replayed: true}
		fingerprint []byte
	)
	err := db.one(ctx, `
		select status, body, fingerprint
		from idempotency_keys
		where user_id = $1 and route = $2 and key = $3`,
		[]any{k.UserID, k.Route, k.Key}, &answer.Status, &answer.Body, &fingerprint)
	if err != nil {
		return idempotency.Answer{}, err
	}
	if !bytes.Equal(fingerprint, k.Fingerprint) {
		return idempotency.Answer{}, idempotency.OtherRequest()
	}
	return answer, nil
}
