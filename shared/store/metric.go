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

// A metric is one file of metrics/. The comments at its head describe it, and the statement below them reads it. A new metric needs
// only a new file, and nothing in Go.
//
// Three kinds of metrics have a value for each user: mean (a number, 0 if there is nothing), share (0 or 1), and score (a number,
// null if the user has none). Their statement reads one user, the row m. It returns the columns value and prior. prior is the
// same for the past; it is null if there is no information about the past. m has user_id; subject, by which events name the
// user; and, for the user's window, entry_id, until_id (the first id after it) and past_id (where the past begins). What the
// statement does for each row, it does for every tweet. So a count that is the rest of another count should be written as a
// subtraction, because PostgreSQL computes equal counts only once.
//
// Data that is stored by day must be read only for whole days, in UTC, and the header must say `counts: whole days`. Otherwise a
// value would change after its window. m has first_day and last_day, the first and last day inside the window, and past_first_day
// and past_last_day, those inside the past.
//
// Two kinds of metrics read the requests of an arm: ratio and quantiles. The statement of a ratio reads one row c of windows or
// buckets, which has requests, errors and, by bound, slow. It returns the columns requests and bad, and no row if nothing was
// counted. @bound is the position of the guardrail's bound, from 1. The statement of quantiles reads the table latencies. It gets
// @experiment, @begin and @end, and returns the columns start, arm and buckets. All its rows for one arm and one count period are
// added up.
//
//go:embed metrics/*.sql
var metricFiles embed.FS

// Kind says what values a metric has.
type Kind string

// The kinds.
const (
	Mean      Kind = "mean"
	Share     Kind = "share"
	Score     Kind = "score"
	Ratio     Kind = "ratio"
	Quantiles Kind = "quantiles"
)

// OfUsers reports whether each user has a value, so that the metric can decide an experiment.
func (k Kind) OfUsers() bool { return k == Mean || k == Share || k == Score }

// Metric is a metric by which experiments are judged.
type Metric struct {
	Name  string
	Label string // for people, for example Tweets per person
	About string
	Kind  Kind
	Unit  string
	Down  bool // whether less is better
	Days  bool // whether it counts whole days in UTC

	// For a metric that people have defined: the type of its events, and how long after the end of a window late events still
	// count. Empty and 0 for Warble's own metrics.
	Events string
	Lag    time.Duration

	series int64 // of its events
	sql    string
}

// fewestDays is how many whole days a window must have, at least, for a metric that counts whole days.
const fewestDays = 2

// Check returns what is wrong with a window for this metric; nil if nothing is. A window may begin at any time of a day, so it has
// one whole day less than its length.
func (m *Metric) Check(window time.Duration) error {
	if least := (fewestDays + 1) * 24 * time.Hour; m.Days && window < least {
		return fmt.Errorf("metric %s counts whole days, and a window of %s may have fewer than %d: expected %s or more", m.Name, window, fewestDays, least)
	}
	return nil
}

// Metrics returns Warble's own metrics, ordered by name.
func Metrics() []Metric { return metrics }

// MetricNamed returns Warble's own metric of that name, if it has one of the kinds. Otherwise the error lists the metrics of
// these kinds.
func MetricNamed(name string, kinds ...Kind) (Metric, error) { return named(metrics, name, kinds...) }

// OfUsers returns the metric of that name that can decide an experiment: one of Warble's, or one of own. Otherwise the error lists
// those that can.
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

// metrics are read once. A file with a wrong header panics, and a test reads all of them, so that no release has one.
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

// Capped returns the metric with all values of users limited to most (winsorised), so that a few very active users do not outweigh
// all others. With most 0 nothing is limited.
func (m Metric) Capped(most float64) Metric {
	if most > 0 {
		bound := strconv.FormatFloat(most, 'f', -1, 64)
		m.sql = "select least(value, " + bound + "::float8) as value, least(prior, " + bound + "::float8) as prior from (" + m.sql + ") uncapped"
	}
	return m
}

// wholeDays is the value of counts in the header of a metric whose data is stored by day.
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
