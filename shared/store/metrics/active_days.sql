-- days, UTC, on which a user makes an authenticated request; the days on which the window begins and ends count
-- kind: mean
-- unit: days
-- direction: up
select
    count(*) filter (where a.day >= m.entry_day) as value,
    count(*) - count(*) filter (where a.day >= m.entry_day) as prior
from activity a
where a.user_id = m.user_id
    and a.day >= m.past_day
    and a.day <= m.until_day
