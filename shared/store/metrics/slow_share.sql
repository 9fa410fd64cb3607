-- requests that took longer than the bound that the experiment states, from when the edge sent them on to the headers of the answer
-- label: Slow requests
-- kind: ratio
-- unit: requests
-- direction: down
select
    c.requests,
    c.slow[@bound] as bad
where cardinality(c.slow) >= @bound
