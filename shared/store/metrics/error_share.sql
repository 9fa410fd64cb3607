-- requests that the edge answered with 5xx, or not in time
-- kind: ratio
-- unit: requests
-- direction: down
select
    start,
    arm,
    sum(requests) as requests,
    sum(errors) as bad
from outcomes
where experiment = @experiment
    and start >= @begin
    and start < @end
group by start, arm
