set local role warble_owner;

-- The UIDs of the resource and its namespace. If the resource is missing, it was deleted, or its cluster was rebuilt.
alter table experiments
    add column uid       text not null default '',
    add column namespace text not null default '';

-- How the experiment ended, for filters of the event of its last transition.
alter table experiment_transitions add column conclusion text not null default '';

-- What an edge has seen of a treatment that tripped its tripwire. From start on, the edge sends nobody to either arm: see
-- experiment.Suspension.
create table suspensions (
    experiment       text not null,
    pod              text not null,
    start            timestamptz not null,
    users            bigint not null,
    answers          bigint not null,
    errors           bigint not null,
    untouched        bigint not null,
    untouched_errors bigint not null,
    verdict          text not null check (verdict in ('', 'treatment', 'everything')),
    primary key (experiment, pod, start)
);
grant select, insert, update, delete on suspensions to warble_ops;
