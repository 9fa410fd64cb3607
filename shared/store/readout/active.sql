-- the users who were active on a day of a span, in some communities or in all; they enter on the first such day
select
    a.user_id,
    a.user_id::text as subject,
    'control' as arm,
    a.user_id::text as unit,
    id_at(min(a.day)::timestamp at time zone 'UTC') as entry_id
from activity a
join users u on u.id = a.user_id
    and (cardinality(:'communities'::text[]) = 0 or u.community = any(:'communities'))
where a.day >= :'from'
    and a.day < :'to'
group by a.user_id
