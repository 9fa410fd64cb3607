set local role warble_owner;

-- What the edges counted of a Service of an arm at one step, per 10 s: see experiment.Outcomes. Edges add up in one row, so that
-- their number does not matter. slow has a count for each of the experiment's bounds, the lowest first. Integers are added up in
-- half of the time that bigints take, and hold a hundred million requests a second.
create table windows (
    experiment text not null,
    step       smallint not null,
    service    text not null,
    arm        text not null check (arm in ('control', 'treatment')),
    start      timestamptz not null,
    requests   integer not null,
    errors     integer not null check (errors between 0 and requests),
    active     bigint not null default 0, -- the buckets of units that asked: bit n is bucket n
    slow       integer[] not null,
    primary key (experiment, step, service, arm, start)
);

-- The same of all windows, by bucket of units. Each edge updates most of these rows every 10 s: with half of a page free, the
-- new row is on the page of the old one, and no index changes.
create table buckets (
    experiment text not null,
    step       smallint not null,
    service    text not null,
    arm        text not null check (arm in ('control', 'treatment')),
    bucket     smallint not null check (bucket between 0 and 31),
    requests   bigint not null,
    errors     bigint not null check (errors between 0 and requests),
    slow       bigint[] not null,
    primary key (experiment, step, service, arm, bucket)
) with (fillfactor = 50);

-- Which windows of which edges are in both tables, so that one that is sent again adds nothing. pod is one process's alone.
-- An edge gives a window up after an hour; these rows are swept after three.
create table windows_taken (
    experiment text not null,
    start      timestamptz not null,
    pod        text not null,
    taken_at   timestamptz not null default now(),
    primary key (experiment, start, pod)
);
create index windows_taken_age on windows_taken (taken_at);

-- steer, and the readout
grant select, insert, update, delete on windows, buckets to warble_ops;
grant select, insert, delete on windows_taken to warble_ops;

-- What was counted before is of all Services together, and of no bucket. Errors are kept; how many were slow nobody counted at
-- the edge. The release before goes on with its table, which goes with the next one.
insert into windows (experiment, step, service, arm, start, requests, errors, slow)
select o.experiment, coalesce(t.step, 0), '', o.arm, o.start, o.requests, o.errors, '{}'
from (
    select experiment, arm, start, sum(requests) as requests, sum(errors) as errors
    from outcomes
    group by experiment, arm, start
) o
left join lateral (
    select step
    from experiment_transitions
    where experiment = o.experiment and at <= o.start
    order by at desc, id desc
    limit 1
) t on true;
