-- whole days, UTC, of the window on which a user makes an authenticated request
-- label: Active days
-- kind: mean
-- unit: days
-- direction: up
-- counts: whole days
select
    count(*) filter (where a.day >= m.first_day) as value,
    count(*) filter (where a.day <= m.past_last_day) as prior
from activity a
where a.user_id = m.user_id
    and a.day >= m.past_first_day
    and a.day <= m.last_day
