set local role warble_owner;

-- Relays read a partition user by user, so that a refused event of one user does not delay others. Rows are inserted and deleted here
-- all day. Without a vacuum after every few thousand, reading an empty outbox would step over the index entries of dead rows.
create index outbox_by_user on outbox (partition, user_id, id);
drop index outbox_by_partition;
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- The relays that are alive, so that each can compute its share.
create table relays (
    name       text primary key,
    expires_at timestamptz not null
);

-- Which relay publishes a partition, and until when. A relay that dies does not renew its partitions, and so loses them.
create table outbox_leases (
    partition  smallint primary key,
    relay      text,
    expires_at timestamptz not null default '-infinity'
);
insert into outbox_leases (partition)
select generate_series(0, 15);

-- Events that could not be delivered, as they were in the outbox. `migrate outbox replay` puts them back.
create table dead_letters (
    id          bigint primary key,
    user_id     bigint not null,
    type        text not null,
    data        jsonb not null,
    traceparent text,
    created_at  timestamptz not null,
    reason      text not null,
    died_at     timestamptz not null default now()
);

grant select, insert, update, delete on relays to warble_ops;
grant select, update on outbox_leases to warble_ops;
grant select, insert on dead_letters to warble_ops;
revoke update on outbox from warble_ops; -- an event is published and gone, or dead: it never changes
