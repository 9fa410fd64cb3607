-- how long a function takes to answer requests, measured inside the function
-- label: Latency
-- kind: quantiles
-- unit: ms
-- direction: down
select
    start,
    arm,
    buckets
from latencies
where experiment = @experiment
    and start >= @begin
    and start < @end
