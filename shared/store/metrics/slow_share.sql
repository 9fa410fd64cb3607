-- requests that took longer than the bound of the experiment's guardrail; the time begins when the edge passes the request on, and ends with the headers of the answer
-- label: Slow requests
-- kind: ratio
-- unit: requests
-- direction: down
select
    c.requests,
    c.slow[@bound] as bad
where cardinality(c.slow) >= @bound
