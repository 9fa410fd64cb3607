-- tweets a user posts; deleted ones count, retweets do not
-- label: Tweets per person
-- kind: mean
-- unit: tweets
-- direction: up
select
    count(*) filter (where t.id >= m.entry_id) as value,
    count(*) - count(*) filter (where t.id >= m.entry_id) as prior
from tweets t
where t.author_id = m.user_id
    and t.id >= m.past_id
    and t.id < m.until_id
    and t.retweet_of is null
