-- retweets a user makes; those taken back count
-- label: Retweets per person
-- kind: mean
-- unit: retweets
-- direction: up
select
    count(*) filter (where t.id >= m.entry_id) as value,
    count(*) - count(*) filter (where t.id >= m.entry_id) as prior
from tweets t
where t.author_id = m.user_id
    and t.id >= m.past_id
    and t.id < m.until_id
    and t.retweet_of is not null
