-- everybody who was exposed in an experiment; they enter with their exposure
select
    e.user_id,
    e.subject,
    e.assigned as arm,
    e.unit,
    id_at(e.first_at) as entry_id
from exposed e
where e.experiment = :'experiment'
    and e.first_at < :'end'
