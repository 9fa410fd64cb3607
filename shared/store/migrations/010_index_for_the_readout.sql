set local role warble_owner;

-- The lowest id of the millisecond of a time, so that a range of time is a range of ids. It uses a difference of times, because only
-- this part of their arithmetic is immutable, so that the planner can inline the call.
create function id_at(t timestamptz) returns bigint
language sql immutable strict parallel safe
return floor(date_part('epoch', t - timestamptz '2026-01-01 00:00:00+00') * 1000 + 0.0005)::bigint << 22;

-- The readout reads what users did in a span of time, deleted or not, only from indexes, user by user. So the cost of a readout depends
-- on what the experiment's users did, and not on what everyone ever did. A tweet is in one of the first two indexes.
create index tweets_of_author on tweets (author_id, id) where retweet_of is null;
create index retweets_of_author on tweets (author_id, id) where retweet_of is not null;
create index likes_of_user on likes (user_id, id);
create index feedback_of_user on feedback (user_id, id) include (score);
-- the members of a community at a time
create index users_of_community on users (community, id) where community is not null;
