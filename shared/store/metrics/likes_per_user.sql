-- likes a user gives; those taken back count
-- label: Likes per person
-- kind: mean
-- unit: likes
-- direction: up
select
    count(*) filter (where l.id >= m.entry_id) as value,
    count(*) - count(*) filter (where l.id >= m.entry_id) as prior
from likes l
where l.user_id = m.user_id
    and l.id >= m.past_id
    and l.id < m.until_id
