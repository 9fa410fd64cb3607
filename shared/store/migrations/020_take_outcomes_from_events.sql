set local role warble_owner;

-- The resources Metric of the cluster, as steer last saw them: an event is taken without asking the cluster.
create table event_metrics (
    name       text primary key,
    definition jsonb not null -- experiment.Metric
);

-- What events said of units, once for each event. A series is what takes the same unit and value from events of the same
-- type: metrics that differ in nothing else have the same rows.
create table metric_events (
    series     bigint not null,
    event      uuid not null,    -- a hash of the event's source and id
    unit       text not null,    -- a user's id, or whatever the event says
    at_id      bigint not null,  -- the event's time, as an id of that millisecond
    arrived_id bigint not null,  -- when it was stored first
    value      numeric not null, -- whose sum does not depend on the order
    primary key (series, event)
);
create index metric_events_of_unit on metric_events (series, unit, at_id) include (arrived_id, value);
-- old ones are swept; rows come nearly in the order of their time
create index metric_events_by_time on metric_events using brin (at_id);

-- The metrics from events that an experiment uses, as they were at its start, and their series.
alter table experiments
    add column metrics jsonb not null default '[]',
    add column series bigint[] not null default '{}';

-- steer, and the readout
grant select, insert, update, delete on event_metrics to warble_ops;
grant select, insert, delete on metric_events to warble_ops;
