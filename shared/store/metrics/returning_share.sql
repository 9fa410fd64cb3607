-- users who are active on at least two whole days, UTC, of the window
-- label: People who come back
-- kind: share
-- unit: users
-- direction: up
-- counts: whole days
select
    (count(*) filter (where a.day >= m.first_day) >= 2)::integer as value,
    (count(*) filter (where a.day <= m.past_last_day) >= 2)::integer as prior
from activity a
where a.user_id = m.user_id
    and a.day >= m.past_first_day
    and a.day <= m.last_day
