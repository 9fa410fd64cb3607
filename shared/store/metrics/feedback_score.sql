-- the mean score of a user's feedback; users who give none are missing
-- label: Feedback score
-- kind: score
-- unit: points, 1 to 5
-- direction: up
select
    avg(f.score) as value,
    null::float8 as prior
from feedback f
where f.user_id = m.user_id
    and f.id >= m.entry_id
    and f.id < m.until_id
