set local role warble_owner;

-- The lowest id of the millisecond of a time: a range of time is a range of ids. A difference of times is what is immutable
-- of their arithmetic, so that the planner can do without the call.
create function id_at(t timestamptz) returns bigint
language sql immutable strict parallel safe
return floor(date_part('epoch', t - timestamptz '2026-01-01 00:00:00+00') * 1000 + 0.0005)::bigint << 22;

-- What users did in a span of time, deleted or not, is read from an index alone, user by user: the readout of an
-- experiment costs what its users did, not what everyone ever has. A tweet is in one of the first two.
create index tweets_of_author on tweets (author_id, id) where retweet_of is null;
create index retweets_of_author on tweets (author_id, id) where retweet_of is not null;
create index likes_of_user on likes (user_id, id);
create index feedback_of_user on feedback (user_id, id) include (score);
-- a community's members at a time
create index users_of_community on users (community, id) where community is not null;
