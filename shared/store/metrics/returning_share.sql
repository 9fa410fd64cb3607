-- users who are active on two days of the window or more
-- kind: share
-- unit: users
-- direction: up
select
    (count(*) filter (where a.day >= m.entry_day) >= 2)::integer as value,
    (count(*) - count(*) filter (where a.day >= m.entry_day) >= 2)::integer as prior
from activity a
where a.user_id = m.user_id
    and a.day >= m.past_day
    and a.day <= m.until_day
