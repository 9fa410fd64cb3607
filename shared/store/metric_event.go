package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
)

// EventsKept is for how many days what events said is kept, at least: a plan looks at the length of a window and at four weeks
// before. What an experiment needs that is not archived is kept longer.
const EventsKept = 90

// MetricEvent is what one event says of a unit, for one metric.
type MetricEvent struct {
	Metric experiment.Metric
	experiment.Occurrence
}

// seriesOf names the rows of a metric: a hash of what it reads.
func seriesOf(m *experiment.Metric) int64 {
	sum := sha256.Sum256([]byte(m.Reads()))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // 64 bits of a hash, whichever number they are
}

// eventOf is a hash of what names an event: its source and its id. Their lengths keep two pairs apart that read the same.
func eventOf(source, id string) (event [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", len(source), source, id))
	copy(event[:], sum[:])
	return event
}

// RecordEvent stores what an event of that source and id says, for each metric once: an event that comes again changes nothing.
func (db *DB) RecordEvent(ctx context.Context, source, id string, at time.Time, said []MetricEvent) error {
	if len(said) == 0 {
		return nil
	}
	var series []int64
	var units, values []string
	for i := range said {
		series = append(series, seriesOf(&said[i].Metric))
		units = append(units, said[i].Unit)
		values = append(values, strconv.FormatFloat(said[i].Value, 'g', -1, 64))
	}
	_, err := db.exec(ctx, `
		insert into metric_events (series, event, unit, at_id, arrived_id, value)
		select s.series, $1, s.unit, id_at($2), id_at(clock_timestamp()), s.value::numeric
		from unnest($3::bigint[], $4::text[], $5::text[]) as s (series, unit, value)
		on conflict (series, event) do nothing`,
		eventOf(source, id), at, series, units, values)
	return err
}

// KeepMetrics makes these the metrics by which events are taken, besides those of experiments that are live.
func (db *DB) KeepMetrics(ctx context.Context, metrics []experiment.Metric) error {
	names, definitions := make([]string, 0, len(metrics)), make([]string, 0, len(metrics))
	for i := range metrics {
		text, err := json.Marshal(metrics[i])
		if err != nil {
			return fmt.Errorf("metric %s: %w", metrics[i].Name, err)
		}
		names, definitions = append(names, metrics[i].Name), append(definitions, string(text))
	}
	_, err := db.exec(ctx, `
		with gone as (
			delete from event_metrics
			where name <> all($1::text[])
		)
		insert into event_metrics as m (name, definition)
		select name, definition::jsonb
		from unnest($1::text[], $2::text[]) as k (name, definition)
		on conflict (name) do update
		set definition = excluded.definition
		where m.definition <> excluded.definition`,
		names, definitions)
	return err
}

// MetricsOf returns the metrics that read events of a type: those that there are, and those with which an experiment was started that
// has not concluded. Of several that read the same, one.
func (db *DB) MetricsOf(ctx context.Context, eventType string) (metrics []experiment.Metric, err error) {
	found, err := rows(ctx, db, pgx.RowTo[[]byte], `
		select definition
		from (
			select name, definition
			from event_metrics
			union all
			select used.definition ->> 'name', used.definition
			from experiments e
			cross join jsonb_array_elements(e.metrics) as used (definition)
			where e.metrics <> '[]'
				and not exists (select from experiment_transitions where experiment = e.name and phase in ('Concluded', 'Archived'))
		) m
		where definition -> 'event' ->> 'type' = $1
		order by name, definition`, eventType)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool)
	for _, text := range found {
		var m experiment.Metric
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("metric of events %s: %w", eventType, err)
		}
		if reads := m.Reads(); !there[reads] {
			there[reads] = true
			metrics = append(metrics, m)
		}
	}
	return metrics, nil
}

// Stored is what there is of a metric's events.
type Stored struct {
	Events int64
	Last   time.Time // when the last of them happened; zero without one
}

// StoredEvents counts the events that each of these metrics reads, in their order.
func (db *DB) StoredEvents(ctx context.Context, metrics []experiment.Metric) ([]Stored, error) {
	series := make([]int64, len(metrics))
	for i := range metrics {
		series[i] = seriesOf(&metrics[i])
	}
	return rows(ctx, db, func(row pgx.CollectableRow) (s Stored, err error) {
		var last int64
		if err = row.Scan(&s.Events, &last); s.Events > 0 {
			s.Last = epoch.Add(time.Duration(last>>22) * time.Millisecond)
		}
		return s, err
	}, `
		select count(v.at_id), coalesce(max(v.at_id), 0)
		from unnest($1::bigint[]) with ordinality as asked (series, place)
		left join metric_events v on v.series = asked.series
		group by asked.place
		order by asked.place`, series)
}

// SweepEvents deletes what events said long ago, unless an experiment uses it that is not archived.
func (db *DB) SweepEvents(ctx context.Context) error {
	return db.sweep(ctx, `
		delete from metric_events
		where ctid = any(array(
			select ctid
			from metric_events v
			where at_id < id_at(now() - interval '`+strconv.Itoa(EventsKept)+` days')
				and not exists (
					select
					from experiments e
					where v.series = any(e.series)
						and e.archived_at is null
						and v.at_id >= id_at(e.started_at - interval '`+strconv.Itoa(int(Past.Hours()))+` hours')
				)
			limit $1))`)
}

// OfEvents is a metric of people's own, as the readout uses it.
func OfEvents(m experiment.Metric) Metric {
	own := Metric{Name: m.Name, Label: m.Label, Unit: m.Unit, Down: m.Direction == "down", Lag: m.Lag(), Events: m.Event.Type}
	value := string(m.Event.Value)
	var within, before string // what becomes of events in the window, and of those before
	switch m.Kind {
	case experiment.KindProportion:
		own.Kind, own.About = Share, "1 with a "+own.Events+" event"
		if value != "" {
			own.About += " whose " + value + " is not 0"
		}
		own.About += ", else 0"
		within, before = `coalesce(bool_or(v.value <> 0) filter (where v.at_id >= m.entry_id), false)::integer`, `coalesce(bool_or(v.value <> 0) filter (where v.at_id < m.entry_id), false)::integer`
	case experiment.KindMean:
		own.Kind, own.About = Score, "the mean "+value+" of "+own.Events+" events; no value without any"
		within, before = `avg(v.value) filter (where v.at_id >= m.entry_id)`, `avg(v.value) filter (where v.at_id < m.entry_id)`
	default:
		own.Kind, own.About = Mean, "the number of "+own.Events+" events"
		if value != "" {
			own.About = "the sum of " + value + " of " + own.Events + " events"
		}
		within, before = `coalesce(sum(v.value) filter (where v.at_id >= m.entry_id), 0)`, `coalesce(sum(v.value) filter (where v.at_id < m.entry_id), 0)`
	}
	own.of = seriesOf(&m)
	own.sql = `
		select ` + within + ` as value, ` + before + ` as prior
		from metric_events v
		where ` + own.events() + `
			and v.at_id >= m.past_id
			and v.arrived_id < ` + own.closes()
	return own
}

// events are the rows v of a member m's events until the end of its window.
func (m *Metric) events() string {
	return `v.series = ` + strconv.FormatInt(m.of, 10) + `
			and v.unit = m.subject
			and v.at_id < m.until_id`
}

// closes is the id at which the window of a member m is frozen.
func (m *Metric) closes() string {
	return `m.until_id + (` + strconv.FormatInt(m.Lag.Milliseconds(), 10) + `::bigint << 22)`
}

// LateDay is how many late events of each arm arrived on a day.
type LateDay struct {
	Day       string `json:"day"` // UTC, as 2026-05-03
	Control   int64  `json:"control"`
	Treatment int64  `json:"treatment"`
}

// LateEvents counts per day and arm the events that belong into the windows of members and arrived, by now, after those were frozen.
// They are not used. Days without any are not there.
func (s *Snapshot) LateEvents(ctx context.Context, metric Metric, members Members, now time.Time) ([]LateDay, error) {
	if metric.Events == "" {
		return nil, nil
	}
	from, args := members.sql()
	args["now"] = now
	return collect(ctx, s, pgx.RowToStructByPos[LateDay], `
		select
			to_char(date '2026-01-01' + ((v.arrived_id >> 22) / 86400000)::integer, 'YYYY-MM-DD'),
			count(*) filter (where m.arm = 'control'),
			count(*) filter (where m.arm = 'treatment')
		from (`+from+`) m
		join metric_events v on `+metric.events()+`
			and v.at_id >= m.entry_id
			and v.arrived_id >= `+metric.closes()+`
		where m.until_id <= id_at(@end) and v.arrived_id < id_at(@now)
		group by 1
		order by 1`, args)
}
