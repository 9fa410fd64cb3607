package store

import (
	"context"
	"embed"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// Members selects the users whose values are read. The value of a user is read from the user's entry on, for Window. Only users whose
// window is over by End have a value.
//
// One of the other fields says who has entered: the users who were exposed to Experiment, or the members of communities when
// their slots were opened. For a plan, which has no experiment yet, it is the users who were active, from the first such day on,
// or those who acted.
type Members struct {
	Experiment string
	Openings   []Opening
	Active     *Active
	Acting     *Acting
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

// Acting selects those who had an event of Metric from From up to, but not including, To, users of Warble or not, each from the first
// of these events.
type Acting struct {
	Metric   Metric
	From, To time.Time
}

// readoutFiles are statements that psql runs as well.
//
//go:embed readout/*.sql
var readoutFiles embed.FS

// variable is one of psql's, as :window or :'end', or a cast, which is none.
var variable = regexp.MustCompile(`::|:('?)([a-z_]+)('?)`)

// statement reads a statement from a file in readout/, without comments and psql's commands. Of the variables, those named
// in parts are replaced by the text there, and all others by named arguments of pgx.
func statement(name string, parts map[string]string) string {
	text, err := readoutFiles.ReadFile("readout/" + name + ".sql")
	if err != nil {
		panic(err) // a name that a test has never asked for
	}
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if word := strings.TrimSpace(line); !strings.HasPrefix(word, "--") && !strings.HasPrefix(word, `\`) {
			kept.WriteString(line)
		}
	}
	return variable.ReplaceAllStringFunc(strings.TrimSuffix(kept.String(), ";\n"), func(found string) string {
		name := strings.Trim(found, ":'")
		if name == "" { // a cast
			return found
		}
		if part, replaced := parts[name]; replaced {
			return part
		}
		return "@" + name
	})
}

// sql selects the rows m of the metrics' contract, for all members: those whose windows are over, and others.
func (m Members) sql() (string, pgx.NamedArgs) {
	entered, args := m.entered()
	args["window"], args["past"], args["end"] = m.Window.Milliseconds(), Past.Milliseconds(), m.End
	return statement("members", map[string]string{"entered": statement(entered, nil)}), args
}

// entered returns the name of the file in readout/ that selects who has entered and when, with the arguments that only this
// file has.
func (m Members) entered() (file string, args pgx.NamedArgs) {
	switch {
	case m.Active != nil:
		return "active", pgx.NamedArgs{"from": m.Active.From, "to": m.Active.To, "communities": noNull(m.Active.Communities)}
	case m.Acting != nil:
		return "acting", pgx.NamedArgs{"from": m.Acting.From, "to": m.Acting.To, "series": m.Acting.Metric.of}
	case m.Openings != nil:
		units, arms, entries := make([]string, 0), make([]string, 0), make([]time.Time, 0)
		for _, o := range m.Openings {
			units, arms, entries = append(units, o.Unit), append(arms, string(o.Arm)), append(entries, o.Entry)
		}
		return "openings", pgx.NamedArgs{"units": units, "arms": arms, "entries": entries}
	}
	return "exposed", pgx.NamedArgs{"experiment": m.Experiment}
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

// UserSums adds up a metric per arm and look, apart before and after the looks' cut, and for these communities, if any. Memory on both
// sides grows with looks and communities, not with users.
func (s *Snapshot) UserSums(ctx context.Context, metric Metric, members Members, looks Looks, communities []string) ([]Sums, error) {
	rows, args := members.sql()
	args["start"], args["every"], args["cut"], args["apart"] = looks.Start, looks.Every.Milliseconds(), looks.Cut, noNull(communities)
	if looks.Cut.IsZero() {
		args["cut"] = members.End
	}
	return collect(ctx, s, pgx.RowToStructByPos[Sums], statement("user_sums", map[string]string{"members": rows, "metric": metric.sql}), args)
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
	from, args := members.sql()
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
				v.value::float8 as y
			from (`+from+`) m
			cross join lateral (`+metric.sql+`) v
			where m.until_id <= id_at(@end)
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
