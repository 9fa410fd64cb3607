create table users (
    id         bigserial primary key,
    username   text not null unique,
    name       text not null,
    created_at timestamptz not null default now()
);
create table tweets (
    id         bigserial primary key,
    user_id    bigint not null references users (id),
    text       text not null,
    created_at timestamptz not null default now()
);
create index tweets_by_user on tweets (user_id, created_at desc);
create table likes (
    user_id  bigint not null references users (id),
    tweet_id bigint not null references tweets (id) on delete cascade,
    primary key (tweet_id, user_id)
);
create table retweets (
    user_id  bigint not null references users (id),
    tweet_id bigint not null references tweets (id) on delete cascade,
    primary key (tweet_id, user_id)
);
insert into users (username, name) select 'u' || n, 'User ' || n from generate_series(1, 100) n;
