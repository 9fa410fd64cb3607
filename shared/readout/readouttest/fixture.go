// Package readouttest fills a database with an experiment, as the edge, the functions and steer would, for tests that read an
// experiment.
package readouttest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/store/pgtest"
)

// Begin is when the experiment starts.
var Begin = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

// Day is 24 hours.
const Day = 24 * time.Hour

// SlotOf creates experiment.Slot as an SQL function, for tests that create rows by SQL. The readout checks these rows with
// the Go function.
const SlotOf = `
	create function slot_of(salt text, unit text) returns integer
	language sql immutable strict parallel safe
	begin atomic
		-- modulo 10000 of a number of 64 bits that has no sign, which bigint cannot hold: 7296 is 2^32 modulo 10000
		select ((('x' || substr(hash, 1, 8))::bit(32)::bigint % 10000 * 7296 + ('x' || substr(hash, 9, 8))::bit(32)::bigint) % 10000)::integer
		from encode(sha256(convert_to(salt, 'UTF8') || '\x00'::bytea || convert_to(unit, 'UTF8')), 'hex') as hash;
	end`

// Fixture is a database that has the experiment "likes".
type Fixture struct {
	pgtest.Database
	Spec experiment.Spec

	t testing.TB
}

// New returns a database with an experiment of users. All users are in an arm from Begin on; the hold and the window are 7
// days each. change changes the spec before the experiment starts; it may be nil.
func New(t testing.TB, change func(*experiment.Spec)) Fixture {
	t.Helper()
	w := Fixture{t: t, Database: pgtest.New(t), Spec: experiment.Spec{
		Services: []string{"like"}, Unit: experiment.User,
		Ramp:    experiment.Ramp{Steps: []int{50}, Hold: experiment.Hold{Time: new(experiment.Duration(7 * Day))}},
		Metrics: experiment.Metrics{Window: experiment.Duration(7 * Day), Primary: experiment.Primary{Name: "tweets_per_user", MinimumEffect: .05}},
		Alpha:   .05, Power: .8,
	}}
	if change != nil {
		change(&w.Spec)
	}
	spec, err := json.Marshal(w.Spec)
	if err != nil {
		t.Fatal(err)
	}
	w.Exec(SlotOf)
	w.Exec(`insert into experiments (name, spec, salt, planned_units, started_at) values ('likes', $1, 'pepper', 2000, $2)`, spec, Begin)
	for i, percent := range w.Spec.Ramp.Steps {
		w.Transition(fmt.Sprint("step", i), "Running", i, percent, Begin.Add(time.Duration(i)*w.Spec.Ramp.Hold.Least()))
	}
	return w
}

// Exec runs one statement as the owner of the database.
func (w Fixture) Exec(sql string, args ...any) {
	w.t.Helper()
	if err := pgtest.Exec(w.t.Context(), w.URL(pgtest.Owner), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// Transition records a change of the experiment's phase or step.
func (w Fixture) Transition(id, phase string, step, percent int, at time.Time) {
	w.t.Helper()
	w.Exec(`
		insert into experiment_transitions (experiment, id, phase, step, percent, at, actor, reason)
		values ('likes', $1, $2, $3, $4, $5, 'steer', 'its time had come')`,
		id, phase, step, percent, at)
}

// People creates n users, who registered 60 days before Begin. It creates the communities too, and puts the users into them
// in turn.
func (w Fixture) People(n int, communities ...string) {
	w.t.Helper()
	w.Exec(`insert into communities (slug, name) select c, c from unnest($1::text[]) c on conflict do nothing`, communities)
	w.Exec(`
		insert into users (id, username, name, community)
		select id_at($2) + (n::bigint << 22), 'u' || n, 'User', ($3::text[])[1 + n % greatest(1, cardinality($3::text[]))]
		from generate_series(1, $1) n`, n, Begin.Add(-60*Day), communities)
}

// Exposed exposes every user within 17 hours of Begin, in the arm that the hash gives.
func (w Fixture) Exposed() {
	w.t.Helper()
	w.Exec(`
		insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, unit, arm, arm, 'like-00001', 1, $1::timestamptz + interval '1 minute' * (id >> 22 & 1023)
		from (
			select id, unit, case when slot_of('pepper', unit) < 5000 then 'control' else 'treatment' end as arm
			from (select id, case when $2 then id::text else community end as unit from users) u
			where unit is not null
		) u`, Begin, w.Spec.Unit == experiment.User)
}

// Tweets lets every exposed user post within a day of the exposure: base tweets and up to 6 others, depending on the id. In
// the treatment, each user posts more tweets in addition (more is the parameter).
func (w Fixture) Tweets(base, more int) {
	w.t.Helper()
	w.Exec(`
		insert into tweets (id, author_id, text)
		select id_at(first_at) + ((row_number() over ())::bigint % 86400000 << 22) + row_number() over () % 4096, user_id, 'hello'
		from exposures, generate_series(1, $1 + (user_id >> 22) % 7 + case assigned when 'treatment' then $2 else 0 end) n`, base, more)
}

// Traffic lets the Service like answer 100 requests of each arm in each of so many count periods. control and treatment are
// the numbers of these that fail. One request is slower than every bound of the experiment. Each bucket of units has the
// same number of requests. The functions have measured 76 requests per period.
func (w Fixture) Traffic(periods, control, treatment int) {
	w.t.Helper()
	bounds := len(w.Spec.Metrics.Bounds())
	w.Exec(`
		insert into windows (experiment, step, service, arm, start, requests, errors, active, slow)
		select 'likes', 0, 'like', arm, $1::timestamptz + interval '10 seconds' * n, 100, case arm when 'control' then $3::integer else $4::integer end,
			4294967295, array_fill(1, array[$5::integer])
		from generate_series(0, $2 - 1) n, unnest(array['control', 'treatment']) arm`, Begin, periods, control, treatment, bounds)
	w.Exec(`
		insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
		select 'likes', 0, 'like', arm, bucket, (100 * $1 + 31 - bucket) / 32, (case arm when 'control' then $2::bigint else $3::bigint end * $1 + 31 - bucket) / 32,
			array_fill((($1::bigint + 31 - bucket) / 32), array[$4::integer])
		from generate_series(0, 31) bucket, unnest(array['control', 'treatment']) arm`, periods, control, treatment, bounds)
	fast := make([]int64, len(experiment.LatencyBounds)+1)
	for i := range 15 {
		fast[i] = 5
	}
	slow := make([]int64, len(fast))
	slow[21] = 1
	w.Exec(`
		insert into latencies (experiment, arm, start, service, pod, buckets)
		select 'likes', arm, $1::timestamptz + interval '10 seconds' * n, service, 'like-1', case service when 'like' then $3::bigint[] else $4 end
		from generate_series(0, $2 - 1) n, unnest(array['control', 'treatment']) arm, unnest(array['like', 'tweet']) service`, Begin, periods, fast, slow)
}

// Feedback lets every third user give a score, and every seventh of them text too.
func (w Fixture) Feedback(text string) {
	w.t.Helper()
	w.Exec(`
		insert into feedback (id, user_id, score, text)
		select id_at(first_at) + 1, user_id, 1 + (user_id >> 22) % 5, case when (user_id >> 22) % 7 = 0 then $1 else '' end
		from exposures
		where (user_id >> 22) % 3 = 0`, text)
}

// Read reads the experiment, with the rights of the role ops, which may read it.
func (w Fixture) Read(at time.Time) readout.Report {
	w.t.Helper()
	r, err := readout.Read(w.t.Context(), w.Open(w.t, pgtest.Ops), "likes", at)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}
