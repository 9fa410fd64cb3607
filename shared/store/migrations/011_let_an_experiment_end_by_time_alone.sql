set local role warble_owner;

-- 0 means that no sample size is set.
alter table experiments drop constraint experiments_planned_units_check;
alter table experiments add constraint experiments_planned_units_check check (planned_units >= 0);
