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

// EventsKept is the least number of days for which the values of events are kept. A plan reads a window and the four weeks
// before it. Values that an experiment needs are kept until it is archived.
const EventsKept = 90

// MetricEvent is the value of one event, for one metric and unit.
type MetricEvent struct {
	Metric experiment.Metric
	experiment.Occurrence
}

// seriesOf returns the number by which the rows of a metric are found: a hash of what the metric reads.
func seriesOf(m *experiment.Metric) int64 {
	sum := sha256.Sum256([]byte(m.Reads()))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits of a hash will do
}

// eventOf returns a hash of an event's source and id. The length of the source makes the hashes of two pairs differ even if their texts
// together are the same.
func eventOf(source, id string) (event [16]byte) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", len(source), source, id))
	copy(event[:], sum[:])
	return event
}

// RecordEvent stores the values of the event with that source and id, once for each metric. An event that comes again changes nothing.
func (db *DB) RecordEvent(ctx context.Context, source, id string, at time.Time, values []MetricEvent) error {
	if len(values) == 0 {
		return nil
	}
	var series []int64
	var units, numbers []string
	for i := range values {
		series = append(series, seriesOf(&values[i].Metric))
		units = append(units, values[i].Unit)
		numbers = append(numbers, strconv.FormatFloat(values[i].Value, 'g', -1, 64))
	}
	_, err := db.exec(ctx, `
		insert into metric_events (series, event, unit, at_id, arrived_id, value)
		select s.series, $1, s.unit, id_at($2), id_at(clock_timestamp()), s.value::numeric
		from unnest($3::bigint[], $4::text[], $5::text[]) as s (series, unit, value)
		on conflict (series, event) do nothing`,
		eventOf(source, id), at, series, units, numbers)
	return err
}

// KeepMetrics replaces the metrics for which events are stored. Events for the metrics of live experiments are stored in any case.
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

// MetricsOf returns the metrics that read events of a type: those of KeepMetrics, and those of experiments that have started
// and not concluded. If several read the same, it returns one of them.
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
	included := make(map[string]bool)
	for _, text := range found {
		var m experiment.Metric
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("metric of events %s: %w", eventType, err)
		}
		if reads := m.Reads(); !included[reads] {
			included[reads] = true
			metrics = append(metrics, m)
		}
	}
	return metrics, nil
}

// Stored describes the stored events of a metric.
type Stored struct {
	Events int64
	Last   time.Time // when the last of them happened; zero if there is none
}

// StoredEvents counts the stored events of each metric, in the order of metrics.
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

// SweepEvents deletes the values of old events (see EventsKept), unless an experiment that is not archived uses them.
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

// OfEvents returns the metric by which the readout reads an event metric.
func OfEvents(m experiment.Metric) Metric {
	own := Metric{Name: m.Name, Label: m.Label, Unit: m.Unit, Down: m.Direction == "down", Lag: m.Lag(), Events: m.Event.Type}
	value := string(m.Event.Value)
	var within, before string // the SQL for the events in the window, and for those before it
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
	own.series = seriesOf(&m)
	own.sql = `
		select ` + within + ` as value, ` + before + ` as prior
		from metric_events v
		where ` + own.events() + `
			and v.at_id >= m.past_id
			and v.arrived_id < ` + own.closes()
	return own
}

// events returns the condition for the rows v with a member m's events until the end of its window.
func (m *Metric) events() string {
	return `v.series = ` + strconv.FormatInt(m.series, 10) + `
			and v.unit = m.subject
			and v.at_id < m.until_id`
}

// closes returns the SQL for the id at which the window of a member m is frozen.
func (m *Metric) closes() string {
	return `m.until_id + (` + strconv.FormatInt(m.Lag.Milliseconds(), 10) + `::bigint << 22)`
}

// LateDay has the number of late events that arrived on one day, by arm.
type LateDay struct {
	Day       string `json:"day"` // UTC, for example 2026-05-03
	Control   int64  `json:"control"`
	Treatment int64  `json:"treatment"`
}

// LateEvents counts the events, by day and arm, that belong to the windows of members but arrived after these windows were
// frozen, and before now. Such events are not used. Days without any are left out.
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
