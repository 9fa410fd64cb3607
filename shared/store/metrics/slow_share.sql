-- requests that took a function longer than the bound that the experiment states, measured inside of it
-- kind: ratio
-- unit: requests
-- direction: down
select
    l.start,
    l.arm,
    counted.requests,
    counted.bad
from latencies l
cross join lateral (
    select
        sum(n) as requests,
        coalesce(sum(n) filter (where bucket >= @over_bucket), 0) as bad
    from unnest(l.buckets) with ordinality as b (n, bucket)
) counted
where l.experiment = @experiment
    and l.start >= @begin
    and l.start < @end
