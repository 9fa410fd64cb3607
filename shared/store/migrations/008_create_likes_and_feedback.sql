set local role warble_owner;

-- A like that is taken back leaves its row, as a deleted tweet does: who liked what when is an outcome of experiments.
-- tweet_id is never a retweet's: whoever likes one likes its source. The lists are ordered by the like's id.
create table likes (
    id         bigint primary key default next_id(),
    user_id    bigint not null references users (id),
    tweet_id   bigint not null references tweets (id),
    created_at timestamptz not null generated always as (id_time(id)) stored,
    deleted_at timestamptz
);
create index likes_by_user on likes (user_id, id desc) where deleted_at is null;
create index likes_by_tweet on likes (tweet_id, id desc) where deleted_at is null;
-- Made last: where the planner thinks that a tweet has one like, as most have, the three cost the same for one user's like
-- of it, and it takes the newest. By likes_by_tweet, a popular tweet's likes would all be read.
create unique index likes_once on likes (user_id, tweet_id) where deleted_at is null;

-- What users think of Warble, as often as they say so. An empty text is none.
create table feedback (
    id         bigint primary key default next_id(),
    user_id    bigint not null references users (id),
    score      smallint not null check (score between 1 and 5),
    text       text not null,
    created_at timestamptz not null generated always as (id_time(id)) stored
);

-- like and feedback; nothing but the readout of experiments reads what people have said
grant select, insert on likes to warble_api;
grant update (deleted_at) on likes to warble_api;
grant insert on feedback to warble_api;
grant select on likes, feedback to warble_ops;
