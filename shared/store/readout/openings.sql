-- all who were members of a community when its slot was opened; they enter then
select
    u.id as user_id,
    u.id::text as subject,
    o.arm,
    o.unit,
    id_at(o.entry) as entry_id
from unnest(:'units'::text[], :'arms'::text[], :'entries'::timestamptz[]) as o (unit, arm, entry)
join users u on u.community = o.unit
    and u.id < id_at(o.entry)
