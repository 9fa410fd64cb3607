set local role warble_owner;

create table communities (
    slug       text primary key check (slug ~ '^[a-z0-9-]{1,40}$'),
    name       text not null check (length(name) between 1 and 100),
    created_at timestamptz not null default now()
);

-- A user's community never changes after registration, because experiments assign by it.
create table users (
    id         bigint primary key default next_id(),
    username   text not null check (username ~ '^[A-Za-z0-9_]{1,15}$'),
    name       text not null,
    community  text references communities (slug),
    created_at timestamptz not null generated always as (id_time(id)) stored
);
create unique index users_username on users (lower(username));

-- A separate table, so that a role that reads users cannot read password hashes.
create table credentials (
    user_id       bigint primary key references users (id),
    email         text not null,
    password_hash text not null,
    updated_at    timestamptz not null default now()
);
create unique index credentials_email on credentials (lower(email));

-- One row for each refresh token ever issued. A family is the chain of tokens that began with one login.
create table refresh_tokens (
    token_hash bytea primary key,
    family     bigint not null,
    user_id    bigint not null references users (id),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at    timestamptz,
    revoked_at timestamptz
);
create index refresh_tokens_family on refresh_tokens (family);
create index refresh_tokens_expiry on refresh_tokens (expires_at);

-- Failed logins by account (SHA-256 of the lower-cased email, so that unknown emails count the same) and network.
-- network '' counts failures for the account from everywhere, since first_at.
create table login_failures (
    account  bytea not null,
    network  text not null,
    failures integer not null,
    first_at timestamptz not null default now(),
    last_at  timestamptz not null default now(),
    primary key (account, network)
);
create index login_failures_last on login_failures (last_at);

-- Networks from which an account has logged in before.
create table known_networks (
    account bytea not null,
    network text not null,
    last_at timestamptz not null default now(),
    primary key (account, network)
);
create index known_networks_last on known_networks (last_at);

-- One row per user and UTC day on which they made an authenticated request.
create table activity (
    user_id bigint not null references users (id),
    day     date not null,
    primary key (user_id, day)
);
