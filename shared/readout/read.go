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

// rows is the source of all figures: *store.Snapshot, or a simulated world.
type rows interface {
	Experiment(ctx context.Context, name string) (store.Started, error)
	Communities(ctx context.Context, before time.Time) ([]string, error)
	Users(ctx context.Context, communities []string, before time.Time) (int64, error)

	Exposures(ctx context.Context, name string, looks store.Looks) ([]store.Exposed, error)
	Candidates(ctx context.Context, name string, communities []string, end time.Time, each func(store.Candidate)) error
	LargestCommunities(ctx context.Context, name string, end time.Time, most int) ([]string, error)
	PodPeriods(ctx context.Context, name string, end time.Time) (experiment.Counts, error)
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

	Periods(ctx context.Context, metric store.Metric, span store.Span, over time.Duration) ([]store.Periods, error)
	Buckets(ctx context.Context, metric store.Metric, name string, over time.Duration) ([]store.Buckets, error)
	Baseline(ctx context.Context, metric store.Metric, name string, over time.Duration) ([]store.Buckets, error)
	LateEvents(ctx context.Context, metric store.Metric, members store.Members, now time.Time) ([]store.LateDay, error)

	Histograms(ctx context.Context, metric store.Metric, span store.Span, every time.Duration) ([]store.Histogram, error)
}

// Read judges a started experiment as of now. It returns problem.NotFound if no experiment of this name has been started.
func Read(ctx context.Context, db *store.DB, name string, now time.Time) (r Report, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, s *store.Snapshot) error {
		r, err = read(ctx, s, name, now)
		return err
	})
	return r, err
}

// reading builds one report.
type reading struct {
	frame
	ctx        context.Context
	rows       rows
	openings   []opening        // communities that have entered, if communities are the unit
	sizes      map[string]int64 // members of each community at its entry
	slugs      []string
	startSizes sizes // of the communities, at the start
	exposed    []store.Exposed
	plannedEnd time.Time // the planned end, at which some methods judge; zero as long as it is not known
	report     *Report

	intervals []func(*Effect, float64) error // by metric, the primary one first: each writes the metric's interval again, at another alpha

	arrivals [2][]arrival // by arm; checkAssignment fills them and checkNeverExposed compares them
	draws    int          // number of arrangements that a permutation test draws; 0 for the default of package stats
}

const quotesPerArm = 10

func read(ctx context.Context, rows rows, name string, now time.Time) (Report, error) {
	now = now.UTC().Truncate(time.Microsecond) // PostgreSQL has no smaller units of time
	started, err := rows.Experiment(ctx, name)
	if err != nil {
		return Report{}, err
	}
	r := newReading(ctx, rows, started, now)
	if !r.begin.IsZero() {
		if err := r.count(r.checkHealth, r.judgeGuardrails, r.readLatency, r.readGroups, r.readDays, r.readQuotes, r.readScores); err != nil {
			return Report{}, fmt.Errorf("readout of %s: %w", name, err)
		}
	}
	r.conclude()
	return *r.report, nil
}

// count finds out which units have entered and by which method they are judged. Then it reads the metrics and the given
// parts of the report. The metrics start first because they take the longest: otherwise the last statement would run alone.
func (r *reading) count(parts ...func() error) error {
	if err := r.findOpenings(); err != nil {
		return err
	}
	if err := runTogether(r.countEntered, r.findPlannedEnd); err != nil {
		return err
	}
	if err := runTogether(append(r.effectParts(), parts...)...); err != nil {
		return err
	}
	r.nameMethod()
	return r.adjustSecondary()
}

// runTogether runs parts concurrently, as many as a snapshot allows, and starts them in the given order. Each part must
// write fields that no other part writes.
func runTogether(parts ...func() error) error {
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

// findOpenings finds the communities that have entered the experiment, if communities are the unit. Communities without
// members are left out.
func (r *reading) findOpenings() error {
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

// countEntered counts the exposed users. If users are the unit, it also counts how many could be exposed.
func (r *reading) countEntered() (err error) {
	if r.exposed, err = r.rows.Exposures(r.ctx, r.Name, r.looks()); err != nil {
		return err
	}
	r.cumulateExposures()
	if u := &r.report.Units; r.Spec.Unit == experiment.User {
		u.Entered = u.Users
		if r.foreign() {
			u.Reachable = u.Entered.Control + u.Entered.Treatment // all that are known
			return nil
		}
		u.Reachable, err = r.population(r.ctx, r.rows)
	}
	return err
}

// shownLooks is the largest number of points in the curve of exposures.
const shownLooks = 120

// cumulateExposures adds up the exposures from look to look. Looks without any exposure are included.
func (r *reading) cumulateExposures() {
	looks := r.looks()
	users := &r.report.Units.Users
	byLook := make(map[int][]store.Exposed)
	for _, e := range r.exposed {
		look := max(e.Look, 0) // if a clock is behind the database's, an exposure may have a time before the start
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
			r.report.Exposures = append(r.report.Exposures, Exposure{earlier(at, looks.End).UTC(), users.Control, users.Treatment})
		}
	}
}

func (r *reading) readQuotes() (err error) {
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

func (r *reading) readScores() (err error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	r.report.Scores, err = r.rows.Scores(r.ctx, r.members(r.end))
	return err
}

// members selects the users who are judged. Only those whose windows are over by end have a value.
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

// toInterval converts an interval. Infinite sides become null.
func toInterval(i stats.Interval) Interval { return Interval{finite(i.Lower), finite(i.Upper)} }

func finite(v float64) *float64 {
	if v-v != 0 { // v is infinite or NaN
		return nil
	}
	return &v
}

// tooLittleData reports whether err only means that the data is not sufficient, and not that something is wrong.
func tooLittleData(err error) bool {
	return errors.Is(err, stats.ErrTooFew) || errors.Is(err, stats.ErrNoVariance) || errors.Is(err, stats.ErrUnstable) || errors.Is(err, stats.ErrBeyondBounds)
}
