set local role warble_owner;

-- The edges' counts for a Service, an arm and a step, by 10 s: see experiment.Outcomes. All edges add to one row, so that their number
-- does not matter. slow has a count for each of the experiment's bounds, the lowest first. Adding up integers takes half the time of
-- bigints, and an integer has room for a hundred million requests a second.
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

-- The same counts for all windows together, by bucket of units. Each edge updates most of these rows every 10 s. Because half of a page
-- is free, the new version of a row is on the same page, and no index changes.
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

-- Which windows of which edges are in both tables, so that a window that is sent again adds nothing. pod is unique for each process. An
-- edge gives up a window after an hour. These rows are deleted after three hours.
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

-- Earlier counts are for all Services together and have no buckets. Their errors are kept; the edge did not count slow requests then.
-- The previous release still uses its own table, which the next release removes.
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
