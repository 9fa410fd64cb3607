set local role warble_owner;

-- The first request to a guest by an assigned unit that is no user of Warble: a visitor, or a user of another issuer. It is like exposures,
-- except that the edge has seen the request, at first_at.
create table guest_exposures (
    experiment text not null,
    unit       text not null,
    assigned   text not null check (assigned in ('control', 'treatment')),
    served     text not null check (served in ('control', 'treatment', 'none')),
    revision   text not null, -- empty where the edge does not know it
    generation bigint not null,
    first_at   timestamptz not null,
    crossed_at timestamptz,
    primary key (experiment, unit)
);

-- All exposures, for the readout. subject is the name by which events name the exposed unit. A unit that is no user of Warble has an id that
-- is made from its name. The id is above all ids of users until 2060, so that it cannot be mistaken for a user of the past.
create view exposed as
select experiment, user_id, unit, user_id::text as subject, assigned, served, revision, generation, first_at, crossed_at
from exposures
union all
select experiment, (1::bigint << 62) | (hashtextextended(unit, 0) & ((1::bigint << 62) - 1)), unit, unit, assigned, served, revision, generation, first_at, crossed_at
from guest_exposures;

-- steer, to which the edges send them, and the readout
grant select, insert, delete, update (crossed_at) on guest_exposures to warble_ops;
grant insert, update (crossed_at) on exposures to warble_ops;
grant select on exposed to warble_ops;
grant insert, update on latencies to warble_ops;
