-- requests that the edge answered with 5xx, or not in time
-- label: Failed requests
-- kind: ratio
-- unit: requests
-- direction: down
select
    c.requests,
    c.errors as bad
