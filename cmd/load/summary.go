package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Outcomes that are not statuses.
const (
	notOpen = "not open" // the feature is not open to the person: not an error
	cutOff  = "cut off"  // the load ended before the answer came: not an error
	dropped = "dropped"  // not sent, because too many requests were under way: an error
)

// results are the results of the requests so far. Latencies are in ns.
type results struct {
	mu       sync.Mutex
	rows     map[rowKey]*row
	lateness *hdrhistogram.Histogram
	latest   row // since the last call of recent
}

type rowKey struct {
	kind kind
	arm  arm
}

type row struct {
	latencies *hdrhistogram.Histogram
	outcomes  map[string]int
}

func newRow() row { return row{newHistogram(), make(map[string]int)} }

func newResults() *results {
	return &results{rows: make(map[rowKey]*row), lateness: newHistogram(), latest: newRow()}
}

// maxLatency is the greatest latency of a histogram. The timeout is shorter.
const maxLatency = 10 * time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(maxLatency), 3)
}

func (r *row) add(what string, took time.Duration) {
	r.outcomes[what]++
	_ = r.latencies.RecordValue(int64(min(max(took, 0), maxLatency))) // cannot fail, because the value is in range
}

func (r *row) merge(other *row) {
	r.latencies.Merge(other.latencies)
	for what, n := range other.outcomes {
		r.outcomes[what] += n
	}
}

func (r *row) requests() (n int) {
	for _, count := range r.outcomes {
		n += count
	}
	return n
}

// errors returns the number of outcomes that are errors.
func (r *row) errors() (n int) {
	for what, count := range r.outcomes {
		if isError(what) {
			n += count
		}
	}
	return n
}

func isError(outcome string) bool {
	return outcome != notOpen && outcome != cutOff && !(len(outcome) == 3 && outcome[0] == '2')
}

// record counts a request that was sent.
func (r *results) record(k kind, a arm, what string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(k, a).add(what, took)
	r.latest.add(what, took)
}

// drop counts a request that was not sent.
func (r *results) drop(k kind, a arm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row(k, a).outcomes[dropped]++
	r.latest.outcomes[dropped]++
}

func (r *results) row(k kind, a arm) *row {
	found := r.rows[rowKey{k, a}]
	if found == nil {
		made := newRow()
		found, r.rows[rowKey{k, a}] = &made, &made
	}
	return found
}

// late records how late this program was with an intent.
func (r *results) late(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.lateness.RecordValue(int64(min(max(by, 0), maxLatency)))
}

// recent returns the results since its last call.
func (r *results) recent() row {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.latest
	r.latest = newRow()
	return was
}

// summary is the result of a load, as -o json prints it. A latency is the time in ms from when the request was due until the last byte of the
// answer. Latencies include timeouts, and not dropped requests.
type summary struct {
	URL         string         `json:"url"`
	Host        string         `json:"host,omitempty"`
	Seed        uint64         `json:"seed"`
	Effect      float64        `json:"effect"` // planted
	Seconds     float64        `json:"seconds"`
	Interrupted bool           `json:"interrupted"`
	Requests    int            `json:"requests"`
	Errors      int            `json:"errors"`
	ErrorShare  float64        `json:"error_share"`
	SentLateP99 float64        `json:"sent_late_p99_ms"` // because this program was late
	SentLateMax float64        `json:"sent_late_max_ms"`
	People      []armOfPeople  `json:"people"`
	Actions     []actionFigure `json:"actions"`
}

// armOfPeople are the people who were in an arm at the end.
type armOfPeople struct {
	Arm            arm     `json:"arm"`
	People         int     `json:"people"`
	Posts          int     `json:"posts"`
	PostsPerPerson float64 `json:"posts_per_person"`
}

type actionFigure struct {
	Action   string         `json:"action"` // or "all"
	Arm      arm            `json:"arm"`
	Requests int            `json:"requests"`
	Errors   int            `json:"errors"`
	Outcomes map[string]int `json:"outcomes"` // number of requests by status, or by another outcome
	P50      float64        `json:"p50_ms"`
	P90      float64        `json:"p90_ms"`
	P99      float64        `json:"p99_ms"`
	Max      float64        `json:"max_ms"`
}

// summary returns the summary. It must be called when no request is under way.
func (l *load) summary(length time.Duration) summary {
	r := l.results
	r.mu.Lock()
	defer r.mu.Unlock()
	s := summary{
		URL: l.base, Host: l.host, Seed: l.seed, Effect: l.effect, Seconds: length.Seconds(),
		SentLateP99: milliseconds(r.lateness.ValueAtQuantile(99)), SentLateMax: milliseconds(r.lateness.Max()),
	}
	for _, a := range arms {
		people := armOfPeople{Arm: a}
		for _, p := range l.persons {
			if p.arm == a {
				people.People++
				people.Posts += p.posts
			}
		}
		if people.People > 0 {
			people.PostsPerPerson = float64(people.Posts) / float64(people.People)
			s.People = append(s.People, people)
		}
	}
	for k := range kinds {
		for _, a := range arms {
			if row := r.rows[rowKey{k, a}]; row != nil {
				s.Actions = append(s.Actions, row.figure(k.String(), a))
			}
		}
	}
	for _, a := range arms {
		all := newRow()
		for key, row := range r.rows {
			if key.arm == a {
				all.merge(row)
			}
		}
		if n := all.requests(); n > 0 {
			s.Actions = append(s.Actions, all.figure("all", a))
			s.Requests += n
			s.Errors += all.errors()
		}
	}
	if s.Requests > 0 {
		s.ErrorShare = float64(s.Errors) / float64(s.Requests)
	}
	return s
}

func (r *row) figure(action string, a arm) actionFigure {
	at := func(quantile float64) float64 { return milliseconds(r.latencies.ValueAtQuantile(quantile)) }
	return actionFigure{action, a, r.requests(), r.errors(), r.outcomes, at(50), at(90), at(99), milliseconds(r.latencies.Max())}
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }

// text prints the summary for people.
func (s summary) text(out io.Writer) error {
	fmt.Fprintf(out, "%d requests in %.1f s (%.1f/s), %d errors (%.2f %%)", s.Requests, s.Seconds, float64(s.Requests)/s.Seconds, s.Errors, 100*s.ErrorShare)
	fmt.Fprintf(out, "; sent late by %.1f ms (p99), %.1f ms (max)\n\n", s.SentLateP99, s.SentLateMax)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "action\tarm\trequests\terrors\tp50 ms\tp90 ms\tp99 ms\tmax ms\t\n")
	for _, a := range s.Actions {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t\n", a.Action, a.Arm, a.Requests, a.Errors, a.P50, a.P90, a.P99, a.Max)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, a := range s.Actions {
		var odd []string
		for _, what := range slices.Sorted(maps.Keys(a.Outcomes)) {
			if what[0] != '2' {
				odd = append(odd, fmt.Sprintf("%s: %d", what, a.Outcomes[what]))
			}
		}
		if len(odd) > 0 && a.Action != "all" {
			fmt.Fprintf(out, "%s, %s: %s\n", a.Action, a.Arm, strings.Join(odd, ", "))
		}
	}
	posts := make(map[arm]float64)
	for _, p := range s.People {
		posts[p.Arm] = p.PostsPerPerson
		fmt.Fprintf(out, "%d people in %s: %.2f posts each\n", p.People, p.Arm, p.PostsPerPerson)
	}
	if posts[control] > 0 && posts[treatment] > 0 {
		fmt.Fprintf(out, "treatment over control: %+.1f %% posts; planted: %+.1f %%\n", 100*(posts[treatment]/posts[control]-1), 100*s.Effect)
	}
	return nil
}
