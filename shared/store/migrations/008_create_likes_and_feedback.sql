set local role warble_owner;

-- The row of a like that is taken back stays, like that of a deleted tweet, because experiments recompute who liked what and when.
-- tweet_id is never a retweet: a like of a retweet is a like of its source. Lists are ordered by the like's id.
create table likes (
    id         bigint primary key default next_id(),
    user_id    bigint not null references users (id),
    tweet_id   bigint not null references tweets (id),
    created_at timestamptz not null generated always as (id_time(id)) stored,
    deleted_at timestamptz
);
create index likes_by_user on likes (user_id, id desc) where deleted_at is null;
create index likes_by_tweet on likes (tweet_id, id desc) where deleted_at is null;
-- This index must be made last. To find one user's like of a tweet, the planner assumes that the tweet has one like, as most
-- have. Then the three indexes cost the same, and the planner takes the newest. With likes_by_tweet, PostgreSQL would read
-- all likes of a popular tweet.
create unique index likes_once on likes (user_id, tweet_id) where deleted_at is null;

-- Users' opinions of Warble; a user may give many. An empty text means that there is none.
create table feedback (
    id         bigint primary key default next_id(),
    user_id    bigint not null references users (id),
    score      smallint not null check (score between 1 and 5),
    text       text not null,
    created_at timestamptz not null generated always as (id_time(id)) stored
);

-- like and feedback; only the readout of experiments reads feedback
grant select, insert on likes to warble_api;
grant update (deleted_at) on likes to warble_api;
grant insert on feedback to warble_api;
grant select on likes, feedback to warble_ops;
