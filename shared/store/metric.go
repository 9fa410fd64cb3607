package store

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A metric is one file of metrics/: its header, of comments, says what it is, and the statement below reads it. A new file
// is a new metric, with nothing to be written in Go.
//
// Kinds of a user's value: mean (a number, 0 where there is nothing), share (0 or 1), score (a number, null where the user
// has none). Their statement is of one user, the row m, and returns the columns value and prior, the same of the past, null
// where the past says nothing. m has user_id and, of the user's window, entry_id, until_id (the first past it) and past_id
// (where the past begins), entry_day, until_day (the last of it) and past_day. What it does per row it does for every tweet
// there is: a count that is the rest of another is a subtraction, for PostgreSQL counts the same thing once.
//
// Kinds of an arm's requests: ratio (start, arm, requests and bad ones of them) and quantiles (start, arm and buckets as in
// latencies). Rows of one window of 10 s and arm are added up, however many there are. They are given @experiment, @begin,
// @end and, where a bound is stated, @over_bucket, the first bucket above it, counted from 1.
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
	About string
	Kind  Kind
	Unit  string
	Down  bool // less is better
	sql   string
}

// Metrics returns all there are, by name.
func Metrics() []Metric { return metrics }

// MetricNamed returns a metric of one of the kinds, or an error that names those there are.
func MetricNamed(name string, kinds ...Kind) (Metric, error) {
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

func parseMetric(name, text string) (Metric, error) {
	m := Metric{Name: name, sql: text}
	var direction string
	for line := range strings.Lines(text) {
		comment, found := strings.CutPrefix(line, "-- ")
		if !found {
			break
		}
		comment = strings.TrimSpace(comment)
		switch key, value, _ := strings.Cut(comment, ": "); key {
		case "kind":
			m.Kind = Kind(value)
		case "unit":
			m.Unit = value
		case "direction":
			direction = value
		default:
			m.About = strings.TrimSpace(m.About + " " + comment)
		}
	}
	m.Down = direction == "down"
	switch {
	case m.About == "" || m.Unit == "":
		return Metric{}, fmt.Errorf("metrics/%s.sql: expected comments that say what it is, and its unit", name)
	case !m.Kind.OfUsers() && m.Kind != Ratio && m.Kind != Quantiles:
		return Metric{}, fmt.Errorf("metrics/%s.sql: kind %s: expected mean, share, score, ratio or quantiles", name, strconv.Quote(string(m.Kind)))
	case direction != "up" && direction != "down":
		return Metric{}, fmt.Errorf("metrics/%s.sql: direction %q: expected up or down", name, direction)
	}
	return m, nil
}
