-- everybody who had an event of a metric in a span, users of Warble or not; they enter with the first of these events
select
    0::bigint as user_id,
    unit as subject,
    'control' as arm,
    unit,
    min(at_id) as entry_id
from metric_events
where series = :'series'::bigint
    and at_id >= id_at(:'from')
    and at_id < id_at(:'to')
group by unit
