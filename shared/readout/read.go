package readout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// rows is where the figures come from: *store.Snapshot, or a simulated world.
type rows interface {
	Experiment(ctx context.Context, name string) (store.Started, error)
	Communities(ctx context.Context, before time.Time) ([]string, error)
	Users(ctx context.Context, communities []string, before time.Time) (int64, error)

	Exposures(ctx context.Context, name string, looks store.Looks) ([]store.Exposed, error)
	Candidates(ctx context.Context, name string, communities []string, end time.Time, each func(store.Candidate)) error
	LargestCommunities(ctx context.Context, name string, end time.Time, most int) ([]string, error)
	PodWindows(ctx context.Context, name string, end time.Time) (experiment.Counts, error)
	ExposedUnits(ctx context.Context, name string, end time.Time) ([]store.ExposedUnit, error)
	Requests(ctx context.Context, name string, recent, end time.Time) ([]store.Requested, error)
	Quotes(ctx context.Context, members store.Members, most int) ([]store.Quote, error)
	Scores(ctx context.Context, members store.Members) (store.Scores, error)

	Completed(ctx context.Context, members store.Members) (experiment.Counts, error)
	CompletedAt(ctx context.Context, members store.Members, n int64) (time.Time, error)
	UserSums(ctx context.Context, metric store.Metric, members store.Members, looks store.Looks, communities []string) ([]store.Sums, error)
	UserParts(ctx context.Context, metric store.Metric, members store.Members, days, nth int) ([]store.Part, error)
	UserValues(ctx context.Context, metric store.Metric, members store.Members, most int) ([]store.Value, error)
	UnitMembers(ctx context.Context, members store.Members) (map[string]int64, error)
	UnitSums(ctx context.Context, metric store.Metric, members store.Members) ([]store.UnitSums, error)

	Windows(ctx context.Context, metric store.Metric, span store.Span, over time.Duration) ([]store.Windows, error)
	Buckets(ctx context.Context, metric store.Metric, name string, over time.Duration) ([]store.Buckets, error)
	Baseline(ctx context.Context, metric store.Metric, name string, over time.Duration) ([]store.Buckets, error)
	LateEvents(ctx context.Context, metric store.Metric, members store.Members, now time.Time) ([]store.LateDay, error)

	Histograms(ctx context.Context, metric store.Metric, span store.Span, every time.Duration) ([]store.Histogram, error)
}

// Read reads a started experiment as it stands at now. Errors: problem.NotFound where none of that name has been started.
func Read(ctx context.Context, db *store.DB, name string, now time.Time) (r Report, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, s *store.Snapshot) error {
		r, err = read(ctx, s, name, now)
		return err
	})
	return r, err
}

// reading is a report in the making.
type reading struct {
	frame
	ctx      context.Context
	rows     rows
	openings []opening        // of communities, where they are the unit
	sizes    map[string]int64 // their members at entry
	slugs    []string
	even     sizes // of the communities, at the start
	exposed  []store.Exposed
	once     time.Time // the planned end, at which some methods judge; zero while it is not known
	report   *Report

	intervals []func(*Effect, float64) error // of the metrics, the primary one first: each writes its interval at another alpha

	arrivals [2][]arrival // of both arms: what rehash has found, neverExposed compares
	draws    int          // of a permutation test's arrangements; 0 for as many as package stats draws
}

const quotesPerArm = 10

func read(ctx context.Context, rows rows, name string, now time.Time) (Report, error) {
	now = now.UTC().Truncate(time.Microsecond) // what PostgreSQL holds of it
	started, err := rows.Experiment(ctx, name)
	if err != nil {
		return Report{}, err
	}
	r := newReading(ctx, rows, started, now)
	if !r.begin.IsZero() {
		if err := r.count(r.health, r.guardrails, r.latency, r.groups, r.byDay, r.quotes, r.scores); err != nil {
			return Report{}, fmt.Errorf("readout of %s: %w", name, err)
		}
	}
	r.conclude()
	return *r.report, nil
}

// count reads who entered and how that is judged, and then the metrics and these parts of the report. The metrics, which
// take the longest, are begun first: the last statement runs alone.
func (r *reading) count(parts ...func() error) error {
	if err := r.opened(); err != nil {
		return err
	}
	if err := atOnce(r.entered, r.horizon); err != nil {
		return err
	}
	if err := atOnce(append(r.effects(), parts...)...); err != nil {
		return err
	}
	r.decisive()
	return r.adjust()
}

// atOnce does as much side by side as a snapshot bears, in this order: each part writes what no other does.
func atOnce(parts ...func() error) error {
	var all errgroup.Group
	all.SetLimit(store.SnapshotConns)
	for _, part := range parts {
		all.Go(part)
	}
	return all.Wait()
}

func newReading(ctx context.Context, rows rows, started store.Started, now time.Time) *reading {
	f := newFrame(started, now)
	report := &Report{
		Experiment: f.Name, At: now, Until: f.end.UTC(), Spec: f.Spec, Salt: f.Salt, Phase: f.phase, StartedAt: f.At.UTC(), Steps: []Step{},
		Observational: f.observational(),
		Units:         Units{Kind: f.Spec.Unit, Planned: f.PlannedUnits},
		History:       []Transition{}, Health: []Check{}, Guardrails: []Guardrail{}, Secondary: []Effect{}, Days: []DayEffect{}, Exposures: []Exposure{}, Groups: []Group{}, Splits: []Split{}, Quotes: []Quote{},
	}
	for _, s := range f.steps {
		report.Steps = append(report.Steps, Step{s.At.UTC(), s.Percent})
	}
	for _, t := range f.Transitions {
		if !t.At.After(now) {
			report.History = append(report.History, Transition{t.At.UTC(), t.Phase, t.Actor, t.Reason})
		}
	}
	return &reading{frame: f, ctx: ctx, rows: rows, report: report}
}

// opened finds the communities that the experiment has taken, where they are the unit.
func (r *reading) opened() error {
	if r.Spec.Unit != experiment.Community {
		return nil
	}
	communities, err := r.rows.Communities(r.ctx, r.end)
	if err != nil {
		return err
	}
	u := &r.report.Units
	u.Reachable = r.reachable(communities)
	r.slugs, r.openings = communities, r.frame.openings(communities)
	if r.sizes, err = r.rows.UnitMembers(r.ctx, r.members(r.end)); err != nil {
		return err
	}
	r.openings = slices.DeleteFunc(r.openings, func(o opening) bool { return r.sizes[o.Unit] == 0 })
	for _, o := range r.openings {
		add(&u.Entered, o.Arm, 1)
	}
	return nil
}

// entered counts who was exposed, and where users are the unit how many could be.
func (r *reading) entered() (err error) {
	if r.exposed, err = r.rows.Exposures(r.ctx, r.Name, r.looks()); err != nil {
		return err
	}
	r.exposures()
	if u := &r.report.Units; r.Spec.Unit == experiment.User {
		u.Entered = u.Users
		if r.foreign() {
			u.Reachable = u.Entered.Control + u.Entered.Treatment // as far as is known
			return nil
		}
		u.Reachable, err = r.population(r.ctx, r.rows)
	}
	return err
}

// shownLooks is how many points the curve of exposures has at most.
const shownLooks = 120

// exposures cumulates the looks, those without any exposure included.
func (r *reading) exposures() {
	looks := r.looks()
	users := &r.report.Units.Users
	byLook := make(map[int][]store.Exposed)
	for _, e := range r.exposed {
		look := max(e.Look, 0) // a clock behind the database's may put one before the start
		byLook[look] = append(byLook[look], e)
	}
	last := int((looks.End.Sub(looks.Start) - 1) / looks.Every)
	each := last/shownLooks + 1
	for i := 0; i <= last; i++ {
		for _, e := range byLook[i] {
			add(users, e.Arm, e.Users)
		}
		if (i+1)%each == 0 || i == last {
			at := looks.Start.Add(time.Duration(i+1) * looks.Every)
			r.report.Exposures = append(r.report.Exposures, Exposure{minTime(at, looks.End).UTC(), users.Control, users.Treatment})
		}
	}
}

func (r *reading) quotes() (err error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	members := r.members(r.end)
	quotes, err := r.rows.Quotes(r.ctx, members, quotesPerArm)
	for _, q := range quotes {
		q.At = q.At.UTC()
		r.report.Quotes = append(r.report.Quotes, q)
	}
	return err
}

func (r *reading) scores() (err error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	r.report.Scores, err = r.rows.Scores(r.ctx, r.members(r.end))
	return err
}

// members are the users who are judged, as far as their windows are over at end.
func (r *reading) members(end time.Time) store.Members {
	m := store.Members{Experiment: r.Name, Window: r.window, End: end}
	if r.Spec.Unit == experiment.Community {
		m.Openings = make([]store.Opening, 0, len(r.openings))
		for _, o := range r.openings {
			m.Openings = append(m.Openings, o.Opening)
		}
	}
	return m
}

func add(c *experiment.Counts, arm experiment.Arm, n int64) {
	if arm == experiment.Treatment {
		c.Treatment += n
	} else {
		c.Control += n
	}
}

// known is an interval whose infinite sides are null.
func known(i stats.Interval) Interval { return Interval{finite(i.Lower), finite(i.Upper)} }

func finite(v float64) *float64 {
	if v-v != 0 { // infinite, or no number
		return nil
	}
	return &v
}

// unsaid tells whether an error only means that the data does not say it, and not that something is wrong.
func unsaid(err error) bool {
	return errors.Is(err, stats.ErrTooFew) || errors.Is(err, stats.ErrNoVariance) || errors.Is(err, stats.ErrUnstable) || errors.Is(err, stats.ErrBeyondBounds)
}
