set local role warble_owner;

-- Events, each written together with the change that it reports. Relays publish the events of a user in order, by partition. The
-- partition comes from the milliseconds of the user's id, because its lowest bits, the sequence, are nearly always the same.
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

-- The answer to a request with an Idempotency-Key. It is valid for 24 hours after created_at.
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
