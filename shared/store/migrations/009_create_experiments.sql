set local role warble_owner;

-- The slot of a unit, computed like experiment.Slot, so that stored rows can be checked against the salt.
create function slot_of(salt text, unit text) returns integer
language sql immutable strict parallel safe
begin atomic
	-- modulo 10000 of a number of 64 bits that has no sign, which bigint cannot hold: 7296 is 2^32 modulo 10000
	select ((('x' || substr(hash, 1, 8))::bit(32)::bigint % 10000 * 7296 + ('x' || substr(hash, 9, 8))::bit(32)::bigint) % 10000)::integer
	from encode(sha256(convert_to(salt, 'UTF8') || '\x00'::bytea || convert_to(unit, 'UTF8')), 'hex') as hash;
end;

-- An experiment as it was started, so that its report needs only the database. spec is the resource's spec.
create table experiments (
    name          text primary key,
    spec          jsonb not null,
    salt          text not null,
    planned_units bigint not null check (planned_units > 0), -- N*, both arms together
    started_at    timestamptz not null,
    archived_at   timestamptz
);

-- Each transition, once. percent is the share of all slots that the treatment has from then on.
create table experiment_transitions (
    experiment text not null references experiments (name) on delete cascade,
    id         text not null,
    phase      text not null, -- the new phase
    step       smallint not null,
    percent    smallint not null check (percent between 0 and 100),
    at         timestamptz not null default now(),
    actor      text not null, -- who caused it: a person, or steer
    reason     text not null,
    figures    jsonb not null default '{}',
    primary key (experiment, id)
);

-- The first request of an assigned user to a function that shows the difference. Only crossed_at changes later: it is when the user
-- was first seen in the other arm, by assignment or by the revision that served them.
create table exposures (
    experiment text not null,
    user_id    bigint not null references users (id),
    unit       text not null, -- the user's id, or the community
    assigned   text not null check (assigned in ('control', 'treatment')),
    served     text not null check (served in ('control', 'treatment', 'none')), -- by the revision that answered
    revision   text not null,
    generation bigint not null,
    first_at   timestamptz not null default now(),
    crossed_at timestamptz,
    primary key (experiment, user_id)
);

-- The edge's counts, by arm and 10 s: see experiment.Outcomes. A window that is sent again is the same row. pod is unique for each
-- process, because two processes that write the same row would hide each other's counts.
create table outcomes (
    experiment text not null,
    arm        text not null check (arm in ('control', 'treatment')),
    start      timestamptz not null,
    pod        text not null,
    requests   bigint not null,
    errors     bigint not null check (errors between 0 and requests),
    primary key (experiment, start, arm, pod)
);

-- The functions' counts, by arm and 10 s: see experiment.Latencies.
create table latencies (
    experiment text not null,
    arm        text not null check (arm in ('control', 'treatment')),
    start      timestamptz not null,
    service    text not null,
    pod        text not null,
    buckets    bigint[] not null,
    primary key (experiment, start, arm, service, pod)
);

-- the functions with two arms
grant select, insert, update (crossed_at) on exposures to warble_api;
grant select, insert, update on latencies to warble_api;
-- steer, and the readout
grant select, insert, update on experiments, experiment_transitions, outcomes to warble_ops;
grant select, delete on exposures, latencies, outcomes to warble_ops;
-- each transition of an experiment is an event
grant insert on outbox to warble_ops;
grant execute on function next_id() to warble_ops;
