package store

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"warble/shared/experiment"
)

// A metric is one file of metrics/: its header, of comments, says what it is, and the statement below reads it. A new file
// is a new metric, with nothing to be written in Go.
//
// Kinds of a user's value: mean (a number, 0 where there is nothing), share (0 or 1), score (a number, null where the user
// has none). Their statement is of one user, the row m, and returns the columns value and prior, the same of the past, null
// where the past says nothing. m has user_id, subject, by which events name the user, and, of the user's window, entry_id, until_id (the first past it) and past_id
// (where the past begins). What it does per row it does for every tweet there is: a count that is the rest of another is a
// subtraction, for PostgreSQL counts the same thing once.
//
// What is stored by day is read of whole days, UTC, alone, or a value would change after its window: `counts: whole days`. m has
// first_day and last_day, those inside the window, and past_first_day and past_last_day, those inside the past.
//
// Kinds of an arm's requests: ratio and quantiles. The statement of a ratio is of one row c of windows, or of buckets, which has
// requests, errors and slow, by bound; it returns the columns requests and bad, and no row where nothing was counted. @bound is
// the place of the guardrail's bound, from 1 on. That of quantiles is of the table latencies; it is given @experiment, @begin and
// @end, and returns the columns start, arm and buckets. Its rows of one window of 10 s and arm are added up, however many there
// are.
//
//go:embed metrics/*.sql
var metricFiles embed.FS

// Kind is what a metric's values are.
type Kind string

// The kinds.
const (
	Mean      Kind = "mean"
	Share     Kind = "share"
	Score     Kind = "score"
	Ratio     Kind = "ratio"
	Quantiles Kind = "quantiles"
)

// OfUsers tells whether each user has a value, so that an experiment can be decided by it.
func (k Kind) OfUsers() bool { return k == Mean || k == Share || k == Score }

// Metric is what an experiment is judged by.
type Metric struct {
	Name  string
	Label string // for people, as Tweets per person
	About string
	Kind  Kind
	Unit  string
	Down  bool // less is better
	Days  bool // it counts whole days, UTC, and not moments

	// Of people's own events: their type, and how long after its end a window takes those that come late. Of Warble's own metrics empty
	// and 0.
	Events string
	Lag    time.Duration

	of  int64 // the series of its events
	sql string
}

// fewestDays are the whole days that a window must hold for a metric that counts them.
const fewestDays = 2

// Check says what is wrong with a window for this metric. A window that begins at any time of a day holds a day less than it is
// long.
func (m *Metric) Check(window time.Duration) error {
	if least := (fewestDays + 1) * 24 * time.Hour; m.Days && window < least {
		return fmt.Errorf("metric %s counts whole days, and a window of %s may hold fewer than %d: expected %s or more", m.Name, window, fewestDays, least)
	}
	return nil
}

// Metrics returns all there are, by name.
func Metrics() []Metric { return metrics }

// MetricNamed returns a metric of Warble's of one of the kinds, or an error that names those there are.
func MetricNamed(name string, kinds ...Kind) (Metric, error) { return named(metrics, name, kinds...) }

// OfUsers returns a metric by which an experiment can be decided: Warble's of that name, or one of people's own. Its error names those
// there are.
func OfUsers(name string, own []experiment.Metric) (Metric, error) {
	all := slices.Clone(metrics)
	for _, m := range own {
		all = append(all, OfEvents(m))
	}
	return named(all, name, Mean, Share, Score)
}

func named(metrics []Metric, name string, kinds ...Kind) (Metric, error) {
	var names []string
	for _, m := range metrics {
		if !slices.Contains(kinds, m.Kind) {
			continue
		}
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Metric{}, fmt.Errorf("metric %q: expected one of %s", name, strings.Join(names, ", "))
}

// metrics are read once; a test reads each file's header, so that no release has a wrong one.
var metrics = func() (found []Metric) {
	files, err := fs.Glob(metricFiles, "metrics/*.sql")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		text, err := metricFiles.ReadFile(file)
		if err != nil {
			panic(err)
		}
		m, err := parseMetric(strings.TrimSuffix(path.Base(file), ".sql"), string(text))
		if err != nil {
			panic(err)
		}
		found = append(found, m)
	}
	return found
}()

// Capped is the metric with no value of a user over most (winsorised), so that a few very active ones do not drown all others.
func (m Metric) Capped(most float64) Metric {
	if most > 0 {
		bound := strconv.FormatFloat(most, 'f', -1, 64)
		m.sql = "select least(value, " + bound + "::float8) as value, least(prior, " + bound + "::float8) as prior from (" + m.sql + ") uncapped"
	}
	return m
}

// wholeDays is what a metric counts that is stored by day.
const wholeDays = "whole days"

func parseMetric(name, text string) (Metric, error) {
	m := Metric{Name: name, sql: text}
	var direction, counts string
	for line := range strings.Lines(text) {
		comment, found := strings.CutPrefix(line, "-- ")
		if !found {
			break
		}
		comment = strings.TrimSpace(comment)
		switch key, value, _ := strings.Cut(comment, ": "); key {
		case "label":
			m.Label = value
		case "kind":
			m.Kind = Kind(value)
		case "unit":
			m.Unit = value
		case "direction":
			direction = value
		case "counts":
			counts = value
		default:
			m.About = strings.TrimSpace(m.About + " " + comment)
		}
	}
	m.Down, m.Days = direction == "down", counts == wholeDays
	switch {
	case m.About == "" || m.Unit == "" || m.Label == "":
		return Metric{}, fmt.Errorf("metrics/%s.sql: expected comments that say what it is, its label and its unit", name)
	case counts != "" && counts != wholeDays:
		return Metric{}, fmt.Errorf("metrics/%s.sql: counts %q: expected %s, or nothing", name, counts, wholeDays)
	case !m.Kind.OfUsers() && m.Kind != Ratio && m.Kind != Quantiles:
		return Metric{}, fmt.Errorf("metrics/%s.sql: kind %s: expected mean, share, score, ratio or quantiles", name, strconv.Quote(string(m.Kind)))
	case direction != "up" && direction != "down":
		return Metric{}, fmt.Errorf("metrics/%s.sql: direction %q: expected up or down", name, direction)
	}
	return m, nil
}
