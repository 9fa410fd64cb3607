set local role warble_owner;

-- A transaction draws its ids before it commits, so a later id can become visible before an earlier one. A reader must be able to find
-- out when all transactions that have drawn ids up to a given one are over. Therefore each transaction takes its transaction id
-- first. Everything else is as in migration 002.
create or replace function next_id() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    epoch constant bigint := 1767225600000; -- 2026-01-01T00:00:00Z
    jumps constant bigint := 7236478291;    -- the lock: any number that nothing else locks
    stale constant bigint := 1000;          -- milliseconds
    node  constant bigint := coalesce(nullif(current_setting('warble.node', true), ''), '0')::bigint & 1023;
    clock constant bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint - epoch;
    xact  constant xid8   := pg_current_xact_id();
    drawn bigint := nextval('public.id_clock');
begin
    while drawn >> 12 < clock or drawn & 2048 <> 0 loop
        begin
            if drawn & 2048 <> 0 or drawn >> 12 < clock - stale then
                perform pg_advisory_xact_lock(jumps);
            elsif not pg_try_advisory_xact_lock(jumps) then
                exit;
            end if;
            drawn := pg_sequence_last_value('public.id_clock');
            if drawn >> 12 < clock or drawn & 2048 <> 0 then
                drawn := setval('public.id_clock', greatest(clock, (drawn >> 12) + 1) << 12);
            else
                drawn := nextval('public.id_clock');
            end if;
            raise sqlstate 'UNLCK';
        exception
            when sqlstate 'UNLCK' then null;
        end;
    end loop;
    return (drawn >> 12 << 22) | (node << 12) | (drawn & 4095);
end
$$;

-- Returns the last id that was drawn (0 before the first), the reader's own transaction, and the oldest one that runs. Once oldest is at
-- least xact, all transactions that have drawn an id up to last are over. The function fails on a standby, which has no transactions
-- of its own.
create function last_id(out last bigint, out xact bigint, out oldest bigint)
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    node  constant bigint := coalesce(nullif(current_setting('warble.node', true), ''), '0')::bigint & 1023;
    drawn constant bigint := coalesce(pg_sequence_last_value('public.id_clock'), 0);
begin
    last := (drawn >> 12 << 22) | (node << 12) | (drawn & 4095);
    xact := pg_current_xact_id()::text::bigint;
    oldest := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
end
$$;

grant select on sequence id_clock to warble_api;
