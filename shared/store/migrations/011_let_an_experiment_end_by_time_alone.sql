set local role warble_owner;

-- 0: nothing tells how many units it needs.
alter table experiments drop constraint experiments_planned_units_check;
alter table experiments add constraint experiments_planned_units_check check (planned_units >= 0);
