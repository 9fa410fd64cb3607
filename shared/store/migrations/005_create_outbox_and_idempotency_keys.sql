set local role warble_owner;

-- What happened, written with what it tells of; relays publish it in order per user, by partition. The partition is
-- taken from the milliseconds of the user's id, for its lowest bits, the sequence, are nearly always the same.
create table outbox (
    id          bigint primary key default next_id(),
    partition   smallint not null generated always as ((user_id >> 22) & 15) stored,
    user_id     bigint not null,
    type        text not null,
    data        jsonb not null,
    traceparent text,
    created_at  timestamptz not null default now()
);
create index outbox_by_partition on outbox (partition, id);

-- The answer to a request that carried an Idempotency-Key. It counts for 24 hours after created_at.
create table idempotency_keys (
    user_id     bigint not null,
    route       text not null,
    key         text not null,
    fingerprint bytea not null,
    status      smallint not null,
    body        text not null,
    created_at  timestamptz not null default now(),
    primary key (user_id, route, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);
