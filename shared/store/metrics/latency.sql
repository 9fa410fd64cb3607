-- how long requests take a function, measured inside of it
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
