set local role warble_owner;

-- The Metric resources of the cluster, as steer last saw them, so that events are stored without asking the cluster.
create table event_metrics (
    name       text primary key,
    definition jsonb not null -- experiment.Metric
);

-- The values of events, with their units, once for each event. A series is the events of one type, read with the same unit and value:
-- metrics that read the same have the same rows, even if they differ in other ways.
create table metric_events (
    series     bigint not null,
    event      uuid not null,    -- a hash of the event's source and id
    unit       text not null,    -- a user's id, or another text from the event
    at_id      bigint not null,  -- the event's time, as an id of that millisecond
    arrived_id bigint not null,  -- when it was stored first
    value      numeric not null, -- a numeric, because its sums do not depend on the order
    primary key (series, event)
);
create index metric_events_of_unit on metric_events (series, unit, at_id) include (arrived_id, value);
-- for deleting old rows; rows are inserted nearly in the order of their time
create index metric_events_by_time on metric_events using brin (at_id);

-- The event metrics that an experiment uses, as they were at its start, and their series.
alter table experiments
    add column metrics jsonb not null default '[]',
    add column series bigint[] not null default '{}';

-- steer, and the readout
grant select, insert, update, delete on event_metrics to warble_ops;
grant select, insert, delete on metric_events to warble_ops;
