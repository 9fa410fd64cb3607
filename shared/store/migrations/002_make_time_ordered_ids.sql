set local role warble_owner;

-- Ids are 64-bit integers that rise with time: 41 bits of milliseconds since 2026-01-01 UTC, 10 bits of node (the
-- database setting warble.node, 0 on a single server), 12 bits of sequence.
--
-- id_clock holds (milliseconds << 12 | sequence) of the last id. So nextval gives the next id, except for the node: it never
-- repeats, and is always above the last. If the clock is ahead, the sequence jumps there. If the clock is behind, because it
-- stepped back, the sequence just counts on until the clock has caught up, and nobody waits.
create sequence id_clock as bigint minvalue 0 start 0;

-- nextval is atomic, but reading the sequence and then making it jump is not. So jumps are made under an advisory lock, and only
-- into the lower half of a millisecond. Meanwhile other sessions continue. A session that finds the lock taken uses the number
-- that it has drawn, if this is also in the lower half and at most a second old. Otherwise it waits: after an hour without an id,
-- for example, the next number is an hour old. So numbers in the upper half are never used. During a jump, each session may draw
-- and drop one number; the upper half has room for these, so that a jump always lands above them.
--
-- The lock must end with the jump, even if a timeout ends the jump. A lock of the session would outlive both, and prevent every
-- later jump. A lock of the transaction would last until the commit. A subtransaction that fails releases its locks, and setval
-- is never undone.
create function next_id() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    epoch constant bigint := 1767225600000; -- 2026-01-01T00:00:00Z
    jumps constant bigint := 7236478291;    -- the lock: any number that nothing else locks
    stale constant bigint := 1000;          -- milliseconds
    node  constant bigint := coalesce(nullif(current_setting('warble.node', true), ''), '0')::bigint & 1023;
    clock constant bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint - epoch;
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

-- The time at which an id was made. Rows get their created_at from it, so that a range of time is a range of ids.
create function id_time(id bigint) returns timestamptz
language sql immutable strict parallel safe
return to_timestamp(((id >> 22) + 1767225600000) / 1000.0);

revoke execute on function next_id() from public;
grant execute on function next_id() to warble_auth, warble_api;
