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
// their slots were opened. A plan has no experiment yet. For a plan, either the users have entered who were active, each on
// the first such day, or the units that had an event.
type Members struct {
	Experiment string
	Openings   []Opening
	Active     *Active
	Acting     *Acting
	Window     time.Duration
	End        time.Time
}

// Opening is the entry of a community: when its slot was opened.
type Opening struct {
	Unit  string
	Arm   experiment.Arm
	Entry time.Time
}

// Active selects the users who were active on a day between From and To. They belong to one of Communities, or to any if it is empty.
type Active struct {
	From, To    time.Time
	Communities []string
}

// Acting selects units that had an event of Metric from From up to, but not including, To. They may be users of Warble or not. Each
// enters with the first of these events.
type Acting struct {
	Metric   Metric
	From, To time.Time
}

// readoutFiles has statements that psql can run as well.
//
//go:embed readout/*.sql
var readoutFiles embed.FS

// variable matches a variable of psql, such as :window or :'end', and also the :: of a cast, which must be left alone.
var variable = regexp.MustCompile(`::|:('?)([a-z_]+)('?)`)

// statement reads a statement from a file in readout/, without comments and psql's commands. Of the variables, those named
// in parts are replaced by the text there, and all others by named arguments of pgx.
func statement(name string, parts map[string]string) string {
	text, err := readoutFiles.ReadFile("readout/" + name + ".sql")
	if err != nil {
		panic(err) // a wrong name in the code; tests use every name
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
		return "acting", pgx.NamedArgs{"from": m.Acting.From, "to": m.Acting.To, "series": m.Acting.Metric.series}
	case m.Openings != nil:
		units, arms, entries := make([]string, 0), make([]string, 0), make([]time.Time, 0)
		for _, o := range m.Openings {
			units, arms, entries = append(units, o.Unit), append(arms, string(o.Arm)), append(entries, o.Entry)
		}
		return "openings", pgx.NamedArgs{"units": units, "arms": arms, "entries": entries}
	}
	return "exposed", pgx.NamedArgs{"experiment": m.Experiment}
}

// Sums has the sufficient statistics of a metric over the users of an arm whose windows ended in one look's span.
type Sums struct {
	Arm       experiment.Arm
	Look      int
	Late      bool   // whether their windows ended after the looks' cut
	Known     bool   // whether they have a past, so that X is their value in it
	Community string // one of the requested communities; empty for all others
	Users     int64  // including those without a value
	N         int64  // users with a value
	NonZero   int64  // users with a value other than 0

	SumY, SumYY, SumX, SumXX, SumXY float64
}

// UserSums adds up a metric by arm and look. The sums are separate before and after the looks' cut, and for each of these
// communities, if there are any. The memory needed, here and in PostgreSQL, grows with the number of looks and communities, not
// with users.
func (s *Snapshot) UserSums(ctx context.Context, metric Metric, members Members, looks Looks, communities []string) ([]Sums, error) {
	rows, args := members.sql()
	args["start"], args["every"], args["cut"], args["apart"] = looks.Start, looks.Every.Milliseconds(), looks.Cut, noNull(communities)
	if looks.Cut.IsZero() {
		args["cut"] = members.End
	}
	return collect(ctx, s, pgx.RowToStructByPos[Sums], statement("user_sums", map[string]string{"members": rows, "metric": metric.sql}), args)
}

// UnitMembers counts the members of each community at its entry. Communities without members are left out.
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

// Value is the value of a single user.
type Value struct {
	Unit  string
	Arm   experiment.Arm
	Value float64
}

// UserValues returns the values of single users, ordered by their ids, at most so many. It is meant for few users. The members are
// sorted before their values are looked up, because otherwise PostgreSQL would look up the values of a million users to return the
// first few.
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

// UnitSums has a metric's sums over the members of a community.
type UnitSums struct {
	Unit    string
	Arm     experiment.Arm
	Members int64 // including those without a value
	N       int64

	Sum, SumSq float64
}

// UnitSums adds up a metric by community.
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

// Completed counts the users of each arm whose windows are over.
func (s *Snapshot) Completed(ctx context.Context, members Members) (n experiment.Counts, err error) {
	return n, failure(s.one(ctx, []any{&n.Control, &n.Treatment}, `
		select count(*) filter (where assigned = 'control'), count(*) filter (where assigned = 'treatment')
		from exposed
		where experiment = $1 and first_at <= $2`,
		members.Experiment, members.End.Add(-members.Window)))
}

// CompletedAt returns when the n-th window of both arms together, counted from 1, was over. At least n windows must be over.
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

// Part has a metric's sums over the users of an arm, for one part of their windows.
type Part struct {
	Day   int // the day after the entry on which the part begins
	Arm   experiment.Arm
	Users int64
	Sum   float64
	SumSq float64
}

// UserParts reads a metric for parts of the windows, each part so many days long. It reads only one in nth users, always the same
// ones. A metric that counts whole days of the calendar has no such parts.
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
