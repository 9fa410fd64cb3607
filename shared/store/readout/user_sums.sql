-- A metric's sums over the users whose windows are over, by arm and look. Snapshot.UserSums sends this file without the lines that
-- begin with a backslash, and with parameters instead of variables. To run it by hand for the experiment likes, in the root of the
-- repository:
--
--   psql "$DATABASE_URL" -v metric_name=tweets_per_user -v experiment=likes -v start=2026-11-01Z -v every=86400000 -v end=2026-11-30Z \
--     -v cut=2026-11-30Z -v window=604800000 -v past=1209600000 -v 'apart={}' -f shared/store/readout/user_sums.sql
--
-- every, window and past are milliseconds. Windows that end after cut are late. The communities in apart get rows of their own.
\set entered `cat shared/store/readout/exposed.sql`
\set members `cat shared/store/readout/members.sql`
\set metric `cat shared/store/metrics/:metric_name.sql`
select
    s.arm,
    s.look,
    s.late,
    s.x is not null as known,
    coalesce(u.community, '') as community,
    count(*) as users,
    count(s.y) as n,
    count(s.y) filter (where s.y <> 0) as non_zero,
    coalesce(sum(s.y), 0) as sum_y,
    coalesce(sum(s.y * s.y), 0) as sum_yy,
    coalesce(sum(s.x), 0) as sum_x,
    coalesce(sum(s.x * s.x), 0) as sum_xx,
    coalesce(sum(s.x * s.y), 0) as sum_xy
from (
    -- y is a user's value. x is the value in the past; null unless y has a value and the user had registered before the past
    -- began
    select
        m.user_id,
        m.arm,
        ((m.until_id - id_at(:'start')) / (:every::bigint << 22))::integer as look,
        m.until_id > id_at(:'cut') as late,
        v.value::float8 as y,
        case when v.value is not null and m.user_id < m.past_id then v.prior::float8 end as x
    from (
        :members
    ) m
    cross join lateral (
        :metric
    ) v
    where m.until_id <= id_at(:'end')
    offset 0
) s
left join users u on u.id = s.user_id
    and cardinality(:'apart'::text[]) > 0
    and u.community = any(:'apart'::text[])
group by 1, 2, 3, 4, 5
order by 1, 2, 3, 4, 5;
