package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Event is a row of the outbox: an event that has not been published yet.
type Event struct {
	ID          int64 // also the event's public id, by which subscribers recognise a duplicate
	UserID      int64 // who caused it; the events of a user are published in the order of their ids
	Partition   int16
	Type        string
	Data        []byte // JSON
	Traceparent string // empty for none
	CreatedAt   time.Time
}

// Partitions is the number of partitions of the outbox. A user's events are all in one (migration 005).
const Partitions = 16

// LeasePartitions renews the partitions that the relay holds, and takes others that are free or expired, up to its share of the 16.
// While another relay is alive, it renews no more than half, and the other relay takes the rest when the leases have expired. It
// returns the partitions that belong to the relay for ttl, counted from before the call.
func (db *DB) LeasePartitions(ctx context.Context, relay string, ttl time.Duration) ([]int16, error) {
	return rows(ctx, db, pgx.RowTo[int16], `
		with me as (
			insert into relays (name, expires_at)
			values ($1, now() + $2::interval)
			on conflict (name) do update
			set expires_at = excluded.expires_at
		),
		long_gone as (
			delete from relays
			where name <> $1 and expires_at < now() - interval '1 minute'
		),
		share as (
			select ceil(16.0 / (1 + count(*))) as partitions
			from relays
			where name <> $1 and expires_at > now()
		),
		mine as (
			select partition
			from outbox_leases
			where relay = $1 or expires_at < now()
			order by relay = $1 desc nulls last, partition
			limit (select partitions from share)
			for update skip locked
		)
		update outbox_leases l
		set relay = $1, expires_at = now() + $2::interval
		from mine
		where l.partition = mine.partition
		returning l.partition`,
		relay, ttl)
}

// ReleasePartitions gives up all partitions of the relay, so that other relays do not have to wait until they expire.
func (db *DB) ReleasePartitions(ctx context.Context, relay string) error {
	_, err := db.exec(ctx, `
		with me as (
			delete from relays
			where name = $1
		)
		update outbox_leases
		set relay = null, expires_at = '-infinity'
		where relay = $1`,
		relay)
	return err
}

// Cursor is where the search for users continues in a partition: after this user.
type Cursor struct {
	Partition int16
	UserID    int64 // 0 for the beginning
}

// UnpublishedEvents returns the oldest events of the next users in each partition: at most users users of each partition, without those in
// except, and at most perUser events of each user. The events are ordered by partition, user and id.
//
// The statement jumps from user to user along the index. So its cost depends on what it returns and on the length of except, and
// not on how many events wait.
func (db *DB) UnpublishedEvents(ctx context.Context, from []Cursor, except []int64, users, perUser int) ([]Event, error) {
	partitions, after := make([]int16, len(from)), make([]int64, len(from))
	for i, c := range from {
		partitions[i], after[i] = c.Partition, c.UserID
	}
	return rows(ctx, db, scanEvent, `
		select e.id, e.user_id, e.partition, e.type, e.data, coalesce(e.traceparent, ''), e.created_at
		from unnest($1::smallint[], $2::bigint[]) p (partition, after)
		cross join lateral (
			with recursive waiting as (
				select (
					select user_id
					from outbox
					where partition = p.partition and user_id > p.after
					order by user_id
					limit 1
				) as user_id
				union all
				select (
					select user_id
					from outbox
					where partition = p.partition and user_id > waiting.user_id
					order by user_id
					limit 1
				)
				from waiting
				where waiting.user_id is not null
			)
			select user_id
			from waiting
			where user_id is not null and user_id <> all(coalesce($3::bigint[], '{}'))
			limit $4
		) u
		cross join lateral (
			select *
			from outbox
			where partition = p.partition and user_id = u.user_id
			order by id
			limit $5
		) e
		order by e.partition, e.user_id, e.id`,
		partitions, after, except, users, perUser)
}

func scanEvent(row pgx.CollectableRow) (Event, error) {
	var e Event
	err := row.Scan(&e.ID, &e.UserID, &e.Partition, &e.Type, &e.Data, &e.Traceparent, &e.CreatedAt)
	return e, err
}

// DeleteEvents deletes events that were published. It needs no lease, because the events are delivered, no matter by which relay.
func (db *DB) DeleteEvents(ctx context.Context, ids []int64) error {
	_, err := db.exec(ctx, `
		delete from outbox
		where id = any($1)`,
		ids)
	return err
}

// BuryEvent moves an event to the dead letters. If the event is not in the outbox any more, nothing changes.
func (db *DB) BuryEvent(ctx context.Context, id int64, reason string) error {
	_, err := db.exec(ctx, `
		with dead as (
			delete from outbox
			where id = $1
			returning id, user_id, type, data, traceparent, created_at
		)
		insert into dead_letters (id, user_id, type, data, traceparent, created_at, reason)
		select id, user_id, type, data, traceparent, created_at, $2
		from dead`,
		id, reason)
	return err
}

// Backlog describes the events that have not reached their subscribers.
type Backlog struct {
	Age         time.Duration // of the oldest event in the outbox; 0 if it is empty
	DeadLetters int
}

// Backlog measures the whole outbox, not only the partitions of one relay.
func (db *DB) Backlog(ctx context.Context) (b Backlog, err error) {
	err = db.one(ctx, `
		select
			coalesce(now() - (select created_at from outbox order by id limit 1), interval '0'),
			(select count(*) from dead_letters)`,
		nil, &b.Age, &b.DeadLetters)
	return b, err
}

// ReplayDeadLetters puts all dead letters back into the outbox, unchanged, and returns how many there were. They may reach
// subscribers after later events of the same users. Events that become dead letters again meanwhile stay so. conn must have the
// owner's rights.
func ReplayDeadLetters(ctx context.Context, conn *Conn) (replayed int64, err error) {
	var began time.Time
	if err := conn.QueryRow(ctx, `select now()`).Scan(&began); err != nil {
		return 0, err
	}
	for {
		tag, err := conn.Exec(ctx, `
			with risen as (
				delete from dead_letters
				where id = any(array(
					select id
					from dead_letters
					where died_at < $2
					order by id
					limit $1
					for update skip locked))
				returning id, user_id, type, data, traceparent, created_at
			)
			insert into outbox (id, user_id, type, data, traceparent, created_at)
			select id, user_id, type, data, traceparent, created_at
			from risen`,
			sweepBatch, began)
		if err != nil {
			return replayed, err
		}
		replayed += tag.RowsAffected()
		if tag.RowsAffected() < sweepBatch {
			return replayed, nil
		}
	}
}
