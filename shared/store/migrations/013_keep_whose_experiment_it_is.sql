set local role warble_owner;

-- Which resource, in which namespace, by their UIDs: one that is missing was deleted, or its cluster was built anew.
alter table experiments
    add column uid       text not null default '',
    add column namespace text not null default '';

-- How a life ended, for whoever filters the event of its last step.
alter table experiment_transitions add column conclusion text not null default '';

-- What the tripwire of an edge has seen of a treatment, from when on it sent nobody there: see experiment.Suspension.
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
