set local role warble_owner;

-- Requests another mail that verifies a user's address. outcome is 'asked', with the request's number; 'waiting' if a mail was requested within
-- the last minute or is being sent, so that a second click sends no second mail; 'verified'; or 'limited', with the seconds until
-- the next mail may be requested, because begin_mail would not send it now. If several calls run at the same time, only one of them
-- requests a mail: each checks after it has taken the lock, which begin_mail uses as well.
create function ask_verification(author bigint, session bigint, out outcome text, out request bigint, out wait double precision)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    person public.credentials;
    asked  bytea;
    fifth  timestamptz;
begin
    wait := 0;
    perform public.check_author(ask_verification.author, ask_verification.session);
    select c.* into person from public.credentials c where c.user_id = ask_verification.author;
    if person.verified_at is not null then
        outcome := 'verified';
        return;
    end if;
    asked := public.address_hash(person.email);
    perform pg_advisory_xact_lock(hashtextextended(encode(asked, 'hex'), 0));
    if exists (
        select
        from public.mail_requests m
        where m.address = asked and m.kind = 'verify' and m.finished_at is null
            and (m.created_at > now() - interval '1 minute' or m.claimed_until > now()))
    then
        outcome := 'waiting';
        return;
    end if;
    -- The fifth latest mail, by the time when it was requested or sent.
    select greatest(m.created_at, case when m.sent then m.finished_at end) into fifth
    from public.mail_requests m
    where m.address = asked and m.kind = 'verify'
    order by 1 desc
    offset 4
    limit 1;
    if fifth > now() - interval '1 hour' then
        outcome := 'limited';
        wait := extract(epoch from fifth + interval '1 hour' - now());
        return;
    end if;
    insert into public.mail_requests as m (kind, address, user_id)
    values ('verify', asked, ask_verification.author)
    returning m.id into request;
    outcome := 'asked';
end
$$;

revoke execute on function ask_verification(bigint, bigint) from public;
grant execute on function ask_verification(bigint, bigint) to warble_auth;
