set local role warble_owner;

-- The row of a deleted tweet stays, without its text, because experiments recompute who posted when.
-- A retweet is a tweet without a text of its own.
-- community is a copy of the author's, which never changes, so that the home timeline is one range of an index. It has no foreign
-- key, because the check would lock the community's row, which thousands of authors share.
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

-- The counts are kept up to date by writes, because a page of a timeline is read far more often than its tweets are retweeted. They
-- have their own table, so that the counter of a popular tweet does not rewrite its text. fillfactor leaves room for the next
-- version of a row on its page, so that the index needs no new entry.
create table tweet_counts (
    tweet_id bigint primary key references tweets (id),
    retweets integer not null default 0,
    likes    integer not null default 0
) with (fillfactor = 70);
