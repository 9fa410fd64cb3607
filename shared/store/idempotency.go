package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"warble/shared/idempotency"
	"warble/shared/problem"
)

// Body is the answer of a write. The new row's id, which only PostgreSQL knows, is inserted between Before and After. The bytes are
// stored with the key, by the same statement that writes the row.
type Body struct {
	Status        int
	Before, After string
}

// claim is the CTE of a writing statement that claims the key. It has a row if the key is new or expired, and none if another
// request has the key or if there is no key. If another statement is inserting the same key, PostgreSQL makes this one wait for it.
// The statement must have the new id in a CTE called new, must check mayWrite in new or source, and has these arguments:
// $1 user, $2 route, $3 key, $4 fingerprint, $5 status, $6 before, $7 after, $8 session.
const claim = claimInsert + `$6 || new.id || $7
		from new` + claimUpdate

// claimWhole is claim for a statement whose answer names no new row. The object that the statement is about is in a CTE called
// source, which is empty if the object does not exist.
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

// mayWrite belongs in the WHERE clause of the first CTE of a statement with claim. It makes the statement fail if its author
// may not write.
const mayWrite = `check_author($1, $8)`

// claimed is true, in a statement with claim, if the write may proceed.
const claimed = `($3 = '' or exists (select from claim))`

func args(k idempotency.Key, b Body, more ...any) []any {
	return append([]any{k.UserID, k.Route, k.Key, k.Fingerprint, b.Status, b.Before, b.After, k.Session}, more...)
}

// write runs a statement with claim that selects the answer's body and claimed, or no row if the object that the statement is
// about does not exist. Errors: problem.NotFound in that case, problem.Invalid if the key was used for another request,
// problem.Conflict if the first request with the key is still running, and a constraint that was violated.
func (db *DB) write(ctx context.Context, sql string, k idempotency.Key, b Body, more ...any) (idempotency.Answer, error) {
	answer := idempotency.Answer{Status: b.Status}
	var claimed bool
	err := db.one(ctx, sql, args(k, b, more...), &answer.Body, &claimed)
	exists := err == nil
	switch {
	case exists && claimed:
		return answer, nil
	case !exists && !errors.Is(err, problem.NotFound):
		return idempotency.Answer{}, claimFailure(k, err)
	}
	// Another request has the key; or the object does not exist, but may have existed when the first request with the key came.
	if answer, err = db.replay(ctx, k); exists && errors.Is(err, problem.NotFound) {
		err = keyLost()
	}
	return answer, err
}

// claimFailure returns err, or StillRunning if the statement's claim has waited until lock_timeout for another one with the same key.
func claimFailure(k idempotency.Key, err error) error {
	if k.Key != "" && code(err) == lockNotAvailable {
		return idempotency.StillRunning(time.Second).Because(err)
	}
	return err
}

// keyLost returns the problem for a claim that found the key taken, and then found no stored answer: the row was swept
// between the two statements. If the client tries again, that request counts as the first one.
func keyLost() error {
	return problem.Conflict.Detail("the first request with this Idempotency-Key has just ended without an answer").After(time.Second)
}

// replay returns the stored answer of a key that a write could not claim. Errors: problem.NotFound if there is none. It is a
// separate statement, because it needs a snapshot from after the commit of the other request.
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
