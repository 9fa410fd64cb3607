set local role warble_owner;

-- The edges' counts from before the first step of an experiment, while nobody was treated. A unit is counted at the step that
-- later opened its slot, and in the arm that it then had. The other columns are as in buckets.
create table baselines (
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

-- steer, and the readout
grant select, insert, update, delete on baselines to warble_ops;
