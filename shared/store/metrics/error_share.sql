-- requests that the edge answered with 5xx, or not in time
-- kind: ratio
-- unit: requests
-- direction: down
select
    start,
    arm,
    requests,
    errors as bad
from outcomes
where experiment = @experiment
    and start >= @begin
    and start < @end
