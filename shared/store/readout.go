package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
	"warble/shared/problem"
)

const (
	// readoutTimeout limits a whole readout. The logins that may read one also have a limit for each statement.
	readoutTimeout = time.Minute
	// Past is how long before a unit's entry the unit's past begins. The readout predicts the unit's value from its past.
	Past = 14 * 24 * time.Hour
)

// Snapshot shows the database at one moment, so that all figures of a readout fit together. Its methods may be called concurrently.
type Snapshot struct{ idle chan pgx.Tx } // all of the same moment, each on its own connection

// SnapshotConns is how many statements of a snapshot run at the same time. PostgreSQL uses only one process for a statement that
// looks up each user.
const SnapshotConns = 2

// Snapshot calls read with a Snapshot of the present moment.
func (db *DB) Snapshot(ctx context.Context, read func(context.Context, *Snapshot) error) error {
	ctx, cancel := context.WithTimeout(ctx, readoutTimeout)
	defer cancel()
	s := &Snapshot{idle: make(chan pgx.Tx, SnapshotConns)}
	var moment string
	for range min(SnapshotConns, int(db.pool.Config().MaxConns)) {
		tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return failure(err)
		}
		defer tx.Rollback(ctx) //nolint:errcheck // it has only read
		if moment == "" {
			err = tx.QueryRow(ctx, `select pg_export_snapshot()`).Scan(&moment)
		} else {
			_, err = tx.Exec(ctx, `set transaction snapshot '`+moment+`'`) // PostgreSQL's own text, of digits and dashes
		}
		if err == nil {
			// JIT compilation takes longer than these statements. Sorting a million users is faster in memory than on disk.
			_, err = tx.Exec(ctx, `set local jit = off; set local work_mem = '64MB'`)
		}
		if err != nil {
			return failure(err)
		}
		s.idle <- tx
	}
	return read(ctx, s)
}

// Started is an experiment as it was started, with its transitions since.
type Started struct {
	Name         string
	Spec         experiment.Spec
	Salt         string
	PlannedUnits int64 // N*, both arms together; 0 if the experiment ends on a date only
	At           time.Time
	Transitions  []experiment.Transition // by time
	Metrics      []experiment.Metric     // copies of the event metrics that it names, from its start
}

// Experiment returns an experiment. Errors: problem.NotFound if none of that name was started.
func (s *Snapshot) Experiment(ctx context.Context, name string) (Started, error) {
	e := Started{Name: name}
	var spec, metrics []byte
	err := s.one(ctx, []any{&spec, &metrics, &e.Salt, &e.PlannedUnits, &e.At}, `
		select spec, metrics, salt, planned_units, started_at
		from experiments
		where name = $1`, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, problem.NotFound.Detail("no experiment %q has been started", name)
	} else if err != nil {
		return e, failure(err)
	}
	if err := json.Unmarshal(spec, &e.Spec); err != nil {
		return e, fmt.Errorf("spec of experiment %s: %w", name, err)
	}
	if err := json.Unmarshal(metrics, &e.Metrics); err != nil {
		return e, fmt.Errorf("metrics of experiment %s: %w", name, err)
	}
	e.Transitions, err = collect(ctx, s, func(row pgx.CollectableRow) (t experiment.Transition, err error) {
		var figures []byte
		err = row.Scan(&t.ID, &t.Phase, &t.Step, &t.Percent, &t.At, &t.Actor, &t.Reason, &figures, &t.Conclusion)
		t.Figures = figures
		return t, err
	}, `
		select id, phase, step, percent, at, actor, reason, figures, conclusion
		from experiment_transitions
		where experiment = $1
		order by at, id`, name)
	return e, err
}

// Predecessor returns the latest experiment before a time that has exposed the same kind of units at one of the same guests, and
// whose exposures are still stored. Errors: problem.NotFound if there is none.
func (s *Snapshot) Predecessor(ctx context.Context, spec experiment.Spec, before time.Time) (Started, error) {
	identity, err := json.Marshal(spec.Identity)
	if err != nil {
		return Started{}, fmt.Errorf("identity: %w", err)
	}
	var name string
	err = s.one(ctx, []any{&name}, `
		select name
		from experiments e
		where started_at < $1
			and spec -> 'identity' = $2::jsonb
			and spec -> 'services' ?| $3
			and coalesce(spec -> 'audience' -> 'communities', '[]') @> to_jsonb($4::text[])
			and to_jsonb($4::text[]) @> coalesce(spec -> 'audience' -> 'communities', '[]')
			and exists (select from guest_exposures where experiment = e.name)
		order by started_at desc
		limit 1`, before, string(identity), spec.Services, noNull(spec.Audience.Communities))
	if errors.Is(err, pgx.ErrNoRows) {
		return Started{}, problem.NotFound.Detail("no earlier experiment had these users or visitors")
	} else if err != nil {
		return Started{}, failure(err)
	}
	return s.Experiment(ctx, name)
}

// Communities returns the slugs of the communities that had a member before a time.
func (s *Snapshot) Communities(ctx context.Context, before time.Time) ([]string, error) {
	return collect(ctx, s, pgx.RowTo[string], `
		select slug
		from communities
		where exists (select from users where community = slug and id < id_at($1))
		order by slug`, before)
}

// Users counts the users of these communities, or all users if communities is empty.
func (s *Snapshot) Users(ctx context.Context, communities []string, before time.Time) (n int64, err error) {
	return n, failure(s.one(ctx, []any{&n}, `
		select count(*)
		from users
		where id < id_at($2) and (cardinality($1::text[]) = 0 or community = any($1))`,
		noNull(communities), before))
}

// Looks divides the time of an experiment, from its start up to an end, into equal spans that end with a look.
type Looks struct {
	Start time.Time
	Every time.Duration
	End   time.Time
	Cut   time.Time // the figures of the span around Cut are split in two, before and after it; zero for no cut
}

// Exposed counts the users of an arm whose first exposure was in one look's span.
type Exposed struct {
	Arm     experiment.Arm
	Look    int
	Users   int64
	Crossed int64 // later seen in the other arm
	Misled  int64 // served by something other than their assigned arm
}

// Exposures counts the users who were exposed until the looks' end, by arm and look. The offset 0 makes PostgreSQL expect few
// looks, so that it does not sort all users.
func (s *Snapshot) Exposures(ctx context.Context, name string, looks Looks) ([]Exposed, error) {
	return collect(ctx, s, pgx.RowToStructByPos[Exposed], `
		select
			assigned,
			look,
			count(*),
			count(*) filter (where crossed_at < @end),
			count(*) filter (where served <> assigned)
		from (
			select assigned, served, crossed_at, `+nth(`first_at - @start`)+` as look
			from exposed
			where experiment = @experiment and first_at < @end
		offset 0) e
		group by assigned, look
		order by assigned, look`, pgx.NamedArgs{"experiment": name, "start": looks.Start, "every": looks.Every, "end": looks.End})
}

// Candidate is a user who could be in an experiment. If the experiment has exposed the user, Unit, Arm and First say in which unit
// and arm, and when; otherwise they are empty.
type Candidate struct {
	UserID    int64
	Community string // empty for none
	Unit      string
	Arm       experiment.Arm
	First     time.Time
}

// Registered returns when the user registered.
func (c *Candidate) Registered() time.Time {
	return epoch.Add(time.Duration(c.UserID>>22) * time.Millisecond)
}

// Candidates calls each for every user who existed at end and belongs to one of these communities (to any, if communities is
// empty), and for every other user who was exposed by then. It does not keep them in memory.
func (s *Snapshot) Candidates(ctx context.Context, name string, communities []string, end time.Time, each func(Candidate)) error {
	var (
		c     Candidate
		arm   string
		first int64
	)
	return failure(s.each(ctx, []any{&c.UserID, &c.Community, &c.Unit, &arm, &first}, func() error {
		c.Arm, c.First = experiment.Arm(arm), time.Time{}
		if arm != "" {
			c.First = time.UnixMilli(first)
		}
		each(c)
		return nil
	}, `
		select u.id, coalesce(u.community, ''), coalesce(e.unit, ''), coalesce(e.assigned, ''), coalesce(date_part('epoch', e.first_at) * 1000, 0)::bigint
		from users u
		left join exposed e on e.user_id = u.id and e.experiment = $1 and e.first_at < $2
		where e.user_id is not null
			or u.id < id_at($2) and (cardinality($3::text[]) = 0 or u.community = any($3))`,
		name, end, noNull(communities)))
}

// LargestCommunities returns the communities with the most users exposed until end, at most so many, largest first.
func (s *Snapshot) LargestCommunities(ctx context.Context, name string, end time.Time, most int) ([]string, error) {
	return collect(ctx, s, pgx.RowTo[string], `
		select u.community
		from exposed e
		join users u on u.id = e.user_id
		where e.experiment = $1 and e.first_at < $2 and u.community is not null
		group by u.community
		order by count(*) desc, u.community
		limit $3`, name, end, most)
}

// PodPeriods counts, for each arm, the count periods in which its pods have served until end, summed over the pods: how much of
// the cluster the arm has used. The pods of guests are not known, because an edge counts for both arms.
func (s *Snapshot) PodPeriods(ctx context.Context, name string, end time.Time) (n experiment.Counts, err error) {
	return n, failure(s.one(ctx, []any{&n.Control, &n.Treatment}, `
		select count(*) filter (where arm = 'control'), count(*) filter (where arm = 'treatment')
		from latencies
		where experiment = $1 and start < $2 and pod not like '`+edgePods+`%'`, name, end))
}

// ExposedUnit is a community with users who were exposed.
type ExposedUnit struct {
	Unit  string
	Arm   experiment.Arm
	First time.Time
	Users int64
}

// ExposedUnits returns the communities with users who were exposed until end. A community that is stored in both arms appears twice.
func (s *Snapshot) ExposedUnits(ctx context.Context, name string, end time.Time) ([]ExposedUnit, error) {
	return collect(ctx, s, pgx.RowToStructByPos[ExposedUnit], `
		select unit, assigned, min(first_at), count(*)
		from exposed
		where experiment = $1 and first_at < $2
		group by unit, assigned
		order by unit, assigned`, name, end)
}

// Requested counts an arm's requests.
type Requested struct {
	Arm      experiment.Arm
	Requests int64
	Recent   int64 // since a given time
	// Active and RecentActive are the numbers of buckets of units from which the requests came. At least as many units sent
	// them.
	Active, RecentActive int64
}

// Requests returns the edge's counts for each arm: all until end, and those since recent.
func (s *Snapshot) Requests(ctx context.Context, name string, recent, end time.Time) ([]Requested, error) {
	return collect(ctx, s, pgx.RowToStructByPos[Requested], `
		select
			arm,
			sum(requests),
			coalesce(sum(requests) filter (where start >= $2), 0),
			bit_count(bit_or(active)::bit(32)),
			coalesce(bit_count((bit_or(active) filter (where start >= $2))::bit(32)), 0)
		from windows
		where experiment = $1 and start < $3
		group by arm
		order by arm`, name, recent, end)
}

// Quote is a text that a user of an arm has written as feedback.
type Quote struct {
	Arm   experiment.Arm `json:"arm"`
	Score int            `json:"score"`
	Text  string         `json:"text"`
	At    time.Time      `json:"at"`
}

// Quotes returns the newest feedback texts of each arm, at most so many, that members wrote after their entry.
func (s *Snapshot) Quotes(ctx context.Context, members Members, most int) ([]Quote, error) {
	from, args := members.sql()
	args["most"] = most
	return collect(ctx, s, pgx.RowToStructByPos[Quote], `
		select arm, score, text, created_at
		from (
			select m.arm, f.score, f.text, f.created_at, row_number() over (partition by m.arm order by f.id desc) as newest
			from (`+from+`) m
			join feedback f on f.user_id = m.user_id and f.id >= m.entry_id
			where f.text <> '' and f.id < id_at(@end)
		) q
		where newest <= @most
		order by arm, newest`, args)
}

// Scores counts how often the users of each arm have given each score: [0] is for score 1.
type Scores struct {
	Control   [5]int64 `json:"control"`
	Treatment [5]int64 `json:"treatment"`
}

// Scores counts the feedback that members gave after their entry.
func (s *Snapshot) Scores(ctx context.Context, members Members) (all Scores, err error) {
	from, args := members.sql()
	counted, err := collect(ctx, s, pgx.RowToStructByPos[struct {
		Arm   experiment.Arm
		Score int
		Times int64
	}], `
		select m.arm, f.score, count(*)
		from (`+from+`) m
		join feedback f on f.user_id = m.user_id and f.id >= m.entry_id
		where f.id < id_at(@end)
		group by m.arm, f.score`, args)
	for _, c := range counted {
		arm := &all.Control
		if c.Arm == experiment.Treatment {
			arm = &all.Treatment
		}
		arm[c.Score-1] = c.Times
	}
	return all, err
}

// Exposed counts the users and visitors who were exposed to each experiment, by arm.
func (db *DB) Exposed(ctx context.Context) (map[string]experiment.Counts, error) {
	rows, err := db.pool.Query(ctx, `
		select experiment, assigned, count(*)
		from exposed
		group by experiment, assigned`)
	if err != nil {
		return nil, failure(err)
	}
	counted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Experiment string
		Arm        experiment.Arm
		Users      int64
	}])
	all := make(map[string]experiment.Counts)
	for _, c := range counted {
		n := all[c.Experiment]
		if c.Arm == experiment.Treatment {
			n.Treatment = c.Users
		} else {
			n.Control = c.Users
		}
		all[c.Experiment] = n
	}
	return all, failure(err)
}

// nth returns the SQL for the number, from 0, of the span of time of length @every in which a moment is. elapsed is the SQL
// for the time between the beginning of the first span and the moment.
func nth(elapsed string) string {
	return `floor(date_part('epoch', ` + elapsed + `) / date_part('epoch', @every::interval))::integer`
}

// use calls do with one of the snapshot's transactions, when one is free.
func (s *Snapshot) use(ctx context.Context, do func(pgx.Tx) error) error {
	select {
	case tx := <-s.idle:
		defer func() { s.idle <- tx }()
		return do(tx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func collect[T any](ctx context.Context, s *Snapshot, scan pgx.RowToFunc[T], sql string, args ...any) (list []T, err error) {
	err = s.use(ctx, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(found, scan)
		return err
	})
	return list, failure(err)
}

// one reads the only row of a statement.
func (s *Snapshot) one(ctx context.Context, into []any, sql string, args ...any) error {
	return s.use(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, sql, args...).Scan(into...) })
}

// each reads rows one by one.
func (s *Snapshot) each(ctx context.Context, into []any, do func() error, sql string, args ...any) error {
	return s.use(ctx, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(found, into, do)
		return err
	})
}

func noNull(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
