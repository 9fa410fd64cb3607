package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// Members are the users whose values are read, each from its entry on for Window. Only those whose window is over by End
// have a value.
//
// They are the users who were exposed to Experiment, or else all who were of an opened community when it entered, or else,
// for want of an experiment, those who were active: each from the first day on that they were.
type Members struct {
	Experiment string
	Openings   []Opening
	Active     *Active
	Window     time.Duration
	End        time.Time
}

// Opening is a community's entry, which was when its slot was opened.
type Opening struct {
	Unit  string
	Arm   experiment.Arm
	Entry time.Time
}

// Active are those who were active on a day between From and To, of some communities or of all.
type Active struct {
	From, To    time.Time
	Communities []string
}

// sql returns the rows m of the metrics' contract, whether their windows are over or not. Times become ids once per
// member, not once per row that is compared with them: offset 0 is what keeps PostgreSQL from moving it there.
func (m Members) sql() (string, pgx.NamedArgs) {
	args := pgx.NamedArgs{"window": m.Window.Milliseconds(), "past": Past.Milliseconds(), "end": m.End}
	from := `
		select e.user_id, e.subject, e.assigned as arm, e.unit, id_at(e.first_at) as entry_id
		from exposed e
		where e.experiment = @experiment and e.first_at < @end`
	switch {
	case m.Active != nil:
		from = `
		select a.user_id, a.user_id::text as subject, 'control' as arm, a.user_id::text as unit, id_at(min(a.day)::timestamp at time zone 'UTC') as entry_id
		from activity a
		join users u on u.id = a.user_id and (cardinality(@communities::text[]) = 0 or u.community = any(@communities))
		where a.day >= @from and a.day < @to
		group by a.user_id`
		args["from"], args["to"], args["communities"] = m.Active.From, m.Active.To, noNull(m.Active.Communities)
	case m.Openings != nil:
		from = `
		select u.id as user_id, u.id::text as subject, o.arm, o.unit, id_at(o.entry) as entry_id
		from unnest(@units::text[], @arms::text[], @entries::timestamptz[]) as o (unit, arm, entry)
		join users u on u.community = o.unit and u.id < id_at(o.entry)`
		units, arms, entries := make([]string, 0), make([]string, 0), make([]time.Time, 0)
		for _, o := range m.Openings {
			units, arms, entries = append(units, o.Unit), append(arms, string(o.Arm)), append(entries, o.Entry)
		}
		args["units"], args["arms"], args["entries"] = units, arms, entries
	default:
		args["experiment"] = m.Experiment
	}
	return `
		select
			user_id,
			subject,
			arm,
			unit,
			entry_id,
			until_id,
			past_id,
			date '2026-01-01' + (((entry_id >> 22) + 86399999) / 86400000)::integer as first_day,
			date '2026-01-01' + ((until_id >> 22) / 86400000)::integer - 1 as last_day,
			date '2026-01-01' + (((past_id >> 22) + 86399999) / 86400000)::integer as past_first_day,
			date '2026-01-01' + ((entry_id >> 22) / 86400000)::integer - 1 as past_last_day
		from (
			select
				user_id,
				subject,
				arm,
				unit,
				entry_id,
				entry_id + (@window::bigint << 22) as until_id,
				entry_id - (@past::bigint << 22) as past_id
			from (` + from + `
			offset 0) entered
		offset 0) m`, args
}

// valued is the rows of members with their values of a metric.
func (m Members) valued(metric Metric) (string, pgx.NamedArgs) {
	from, args := m.sql()
	return `
		from (` + from + `) m
		cross join lateral (` + metric.sql + `) v
		where m.until_id <= id_at(@end)`, args
}

// Sums are the sufficient statistics of a metric over the users of an arm whose windows ended in one look.
type Sums struct {
	Arm       experiment.Arm
	Look      int
	Late      bool   // their windows ended after the looks' cut
	Known     bool   // from the past, so that X is their value then
	Community string // one of those asked for; empty for all others
	Users     int64  // those without a value included
	N         int64
	NonZero   int64 // of N

	SumY, SumYY, SumX, SumXX, SumXY float64
}

// UserSums adds up a metric per arm and look, apart before and after the looks' cut, and for these communities, if any. Memory on both sides grows with looks
// and communities, not with users.
func (s *Snapshot) UserSums(ctx context.Context, metric Metric, members Members, looks Looks, communities []string) ([]Sums, error) {
	from, args := members.valued(metric)
	args["start"], args["every"], args["cut"] = looks.Start, looks.Every.Milliseconds(), looks.Cut
	if looks.Cut.IsZero() {
		args["cut"] = members.End
	}
	community, join := `''`, ``
	if len(communities) > 0 {
		community, join = `coalesce(c.slug, '')`, `
		join users u on u.id = v.user_id
		left join unnest(@apart::text[]) as c (slug) on c.slug = u.community`
		args["apart"] = communities
	}
	return collect(ctx, s, pgx.RowToStructByPos[Sums], `
		select
			arm,
			look,
			late,
			known,
			`+community+`,
			count(*),
			count(y),
			count(y) filter (where y <> 0),
			coalesce(sum(y), 0),
			coalesce(sum(y * y), 0),
			coalesce(sum(x) filter (where known), 0),
			coalesce(sum(x * x) filter (where known), 0),
			coalesce(sum(x * y) filter (where known), 0)
		from (
			select
				m.user_id,
				m.arm,
				((m.until_id - id_at(@start)) / (@every::bigint << 22))::integer as look,
				m.until_id > id_at(@cut) as late,
				v.value is not null and v.prior is not null and m.user_id < m.past_id as known,
				v.value::float8 as y,
				v.prior::float8 as x`+from+`
		offset 0) v`+join+`
		group by 1, 2, 3, 4, 5
		order by 1, 2, 3, 4, 5`, args)
}

// UnitMembers counts the members of each community at its entry; one without any is not there.
func (s *Snapshot) UnitMembers(ctx context.Context, members Members) (map[string]int64, error) {
	from, args := members.sql()
	counts := make(map[string]int64)
	var (
		unit string
		n    int64
	)
	err := s.each(ctx, []any{&unit, &n}, func() error {
		counts[unit] = n
		return nil
	}, `select unit, count(*) from (`+from+`) m group by unit`, args)
	return counts, failure(err)
}

// Value is that of a single user.
type Value struct {
	Unit  string
	Arm   experiment.Arm
	Value float64
}

// UserValues returns the users' values one by one, in the order of their ids: for few, and at most so many. Members are sorted
// before their values are looked up, or those of a million users would be for the first of them.
func (s *Snapshot) UserValues(ctx context.Context, metric Metric, members Members, most int) ([]Value, error) {
	from, args := members.sql()
	args["most"] = most
	return collect(ctx, s, pgx.RowToStructByPos[Value], `
		select m.unit, m.arm, v.value::float8
		from (
			select *
			from (`+from+`) m
			where m.until_id <= id_at(@end)
			order by m.user_id
		offset 0) m
		cross join lateral (`+metric.sql+`) v
		where v.value is not null
		order by m.user_id
		limit @most`, args)
}

// UnitSums are a metric's sums over the members of a community.
type UnitSums struct {
	Unit    string
	Arm     experiment.Arm
	Members int64 // those without a value included
	N       int64

	Sum, SumSq float64
}

// UnitSums adds up a metric per community.
func (s *Snapshot) UnitSums(ctx context.Context, metric Metric, members Members) ([]UnitSums, error) {
	from, args := members.valued(metric)
	return collect(ctx, s, pgx.RowToStructByPos[UnitSums], `
		select
			unit,
			arm,
			count(*),
			count(y),
			coalesce(sum(y), 0),
			coalesce(sum(y * y), 0)
		from (
			select
				m.unit,
				m.arm,
				v.value::float8 as y`+from+`
		offset 0) v
		group by unit, arm
		order by unit, arm`, args)
}

// Completed counts the users per arm whose windows are over.
func (s *Snapshot) Completed(ctx context.Context, members Members) (n experiment.Counts, err error) {
	return n, failure(s.one(ctx, []any{&n.Control, &n.Treatment}, `
		select count(*) filter (where assigned = 'control'), count(*) filter (where assigned = 'treatment')
		from exposed
		where experiment = $1 and first_at <= $2`,
		members.Experiment, members.End.Add(-members.Window)))
}

// CompletedAt returns when the n-th window of both arms, counted from 1, was over, of at least so many.
func (s *Snapshot) CompletedAt(ctx context.Context, members Members, n int64) (at time.Time, err error) {
	err = s.one(ctx, []any{&at}, `
		select first_at
		from exposed
		where experiment = $1 and first_at <= $2
		order by first_at
		offset $3
		limit 1`,
		members.Experiment, members.End.Add(-members.Window), n-1)
	return at.Add(members.Window), failure(err)
}

// Part is what the users of an arm did in one part of their windows.
type Part struct {
	Day   int // after their entries, at which the part begins
	Arm   experiment.Arm
	Users int64
	Sum   float64
	SumSq float64
}

// UserParts reads a metric over the parts of each window, of so many days each, of one in nth users: the same ones each time.
// What counts whole days of the calendar has no such parts.
func (s *Snapshot) UserParts(ctx context.Context, metric Metric, members Members, days, nth int) ([]Part, error) {
	from, args := members.sql()
	args["days"], args["last"], args["nth"], args["day"] = days, int(members.Window/(24*time.Hour))-days, max(1, nth), (24 * time.Hour).Milliseconds()
	return collect(ctx, s, pgx.RowToStructByPos[Part], `
		select
			m.day,
			m.arm,
			count(v.value),
			coalesce(sum(v.value::float8), 0),
			coalesce(sum(v.value::float8 * v.value::float8), 0)
		from (
			select
				w.user_id,
				w.subject,
				w.arm,
				part.day,
				w.entry_id + (part.day * @day::bigint << 22) as entry_id,
				w.entry_id + (part.day * @day::bigint << 22) as past_id,
				w.entry_id + ((part.day + @days::integer) * @day::bigint << 22) as until_id
			from (`+from+`) w
			cross join generate_series(0, @last::integer, @days::integer) as part (day)
			where w.until_id <= id_at(@end) and (hashint8(w.user_id) & 2147483647) % @nth::integer = 0
		offset 0) m
		cross join lateral (`+metric.sql+`) v
		group by m.day, m.arm
		order by m.day, m.arm`, args)
}
