set local role warble_owner;

-- A deleted tweet leaves its row, without its text: who posted when is an outcome that experiments recompute.
-- A retweet is a tweet without a text of its own.
-- community is the author's, copied because it never changes, so that the home timeline is one index range. It refers to
-- no row: the check would lock the community's row, the same one for thousands of authors.
create table tweets (
    id         bigint primary key default next_id(),
    author_id  bigint not null references users (id),
    community  text,
    text       text not null,
    retweet_of bigint references tweets (id),
    created_at timestamptz not null generated always as (id_time(id)) stored,
    deleted_at timestamptz,
    check ((text = '') = (retweet_of is not null or deleted_at is not null))
);
create index tweets_by_author on tweets (author_id, id desc) where deleted_at is null;
create index tweets_by_community on tweets (community, id desc) where deleted_at is null and community is not null;
create index retweets_by_source on tweets (retweet_of, id desc) where deleted_at is null and retweet_of is not null;
create unique index retweets_once on tweets (author_id, retweet_of) where deleted_at is null and retweet_of is not null;

-- Counted when written, not when read: a page of timeline is read far more often than anything on it is retweeted.
-- A table of its own, so that a popular tweet's counter never rewrites its text. fillfactor leaves a row's next version
-- room on its page, which spares the index an entry.
create table tweet_counts (
    tweet_id bigint primary key references tweets (id),
    retweets integer not null default 0,
    likes    integer not null default 0
) with (fillfactor = 70);
