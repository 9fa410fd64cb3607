-- The rows m of the metrics' contract: everybody who has entered, with the ids and days of their window and their past. entered is
-- another file of this folder. window and past are milliseconds. The clauses offset 0 make PostgreSQL compute ids and days
-- once per member. Without them, PostgreSQL would compute ids and days for each row that it compares with them. PostgreSQL
-- does not compute columns that a statement does not use.
select
    w.user_id,
    w.subject,
    w.arm,
    w.unit,
    w.entry_id,
    w.until_id,
    w.past_id,
    date '2026-01-01' + (((w.entry_id >> 22) + 86399999) / 86400000)::integer as first_day,
    date '2026-01-01' + ((w.until_id >> 22) / 86400000)::integer - 1 as last_day,
    date '2026-01-01' + (((w.past_id >> 22) + 86399999) / 86400000)::integer as past_first_day,
    date '2026-01-01' + ((w.entry_id >> 22) / 86400000)::integer - 1 as past_last_day
from (
    select
        e.user_id,
        e.subject,
        e.arm,
        e.unit,
        e.entry_id,
        e.entry_id + (:window::bigint << 22) as until_id,
        e.entry_id - (:past::bigint << 22) as past_id
    from (
        :entered
        offset 0
    ) e
    offset 0
) w
offset 0
