-- The group of the function mail, which may only call the three functions below.
do $$
begin
    create role warble_mail nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;

grant usage on schema public to warble_mail;

set local role warble_owner;

-- When the owner has shown that mail to the address reaches them; null if that has not happened.
alter table credentials add column verified_at timestamptz;

-- The hash of an address in a mail request: SHA-256 of the form that is compared.
create function address_hash(email text) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(lower(email collate "C"), 'UTF8'));

create index credentials_address on credentials (address_hash(email));

-- Requests for mail to an address. The address may belong to nobody, and the client must not learn whether it does.
create table mail_requests (
    id            bigint primary key default next_id(),
    kind          text not null check (kind in ('verify', 'reset')),
    address       bytea not null, -- address_hash
    user_id       bigint references users (id), -- whose address it was when the mail was sent; null before that, or if it was nobody's
    created_at    timestamptz not null default now(),
    claimed_until timestamptz, -- somebody is sending it until then at most
    finished_at   timestamptz, -- it was sent, or there is nothing to send
    sent          boolean not null default false,
    used_at       timestamptz -- its token was used: no other token of it counts
);
create index mail_requests_by_address on mail_requests (address, kind);
create index mail_requests_by_user on mail_requests (user_id);
create index mail_requests_age on mail_requests (created_at);

-- One row for each mail that may have been sent. A request has a second row if it is not known how the first try ended.
create table mail_tokens (
    token_hash bytea primary key, -- SHA-256
    request    bigint not null references mail_requests (id) on delete cascade,
    created_at timestamptz not null default now()
);
create index mail_tokens_by_request on mail_tokens (request);

-- Claims a request for a minute, and stores the hash of the token that is about to be sent. outcome is 'send'; 'busy' if somebody else has
-- claimed it; or 'nothing' if there is nothing to send, now or later. There is nothing to send if the mail was sent, the
-- request is more than a day old or gone, nobody has the address, it is verified already, or five mails of the kind went
-- there within the hour. The role that calls the function can read no table, so it gets only the addresses of people who wait
-- for mail.
create function begin_mail(request bigint, token bytea, out outcome text, out kind text, out email text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    asked  public.mail_requests;
    person public.credentials;
begin
    outcome := 'nothing';
    select * into asked from public.mail_requests m where m.id = begin_mail.request for update;
    if not found or asked.finished_at is not null then
        return;
    end if;
    if asked.claimed_until > now() then
        outcome := 'busy';
        return;
    end if;
    -- The lock makes two requests for one address be counted one after the other.
    perform pg_advisory_xact_lock(hashtextextended(encode(asked.address, 'hex'), 0));
    select c.* into person
    from public.credentials c
    join public.users u on u.id = c.user_id and u.deleted_at is null
    where public.address_hash(c.email) = asked.address;
    if not found
        or asked.kind = 'verify' and person.verified_at is not null
        or asked.created_at < now() - interval '24 hours'
        or 5 <= (
            select count(*)
            from public.mail_requests m
            where m.address = asked.address and m.kind = asked.kind and m.id <> asked.id
                and (m.claimed_until > now() or m.sent and m.finished_at > now() - interval '1 hour'))
    then
        update public.mail_requests m set finished_at = now() where m.id = asked.id;
        return;
    end if;
    insert into public.mail_tokens (token_hash, request) values (begin_mail.token, asked.id);
    update public.mail_requests m set claimed_until = now() + interval '1 minute', user_id = person.user_id where m.id = asked.id;
    outcome := 'send';
    kind := asked.kind;
    email := person.email;
end
$$;

-- The request needs no more mail: it was sent, or it never will be.
create function finish_mail(request bigint, was_sent boolean) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    update public.mail_requests
    set finished_at = now(), claimed_until = null, sent = was_sent
    where id = request and finished_at is null
$$;

-- The try has failed, and the next one may begin immediately.
create function release_mail(request bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    update public.mail_requests
    set claimed_until = null
    where id = request and finished_at is null
$$;

-- Returns whether a user has shown that mail reaches them. It is for roles that must not read credentials.
create function email_verified(account bigint) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select exists (select from public.credentials where user_id = account and verified_at is not null)
$$;

revoke execute on function begin_mail(bigint, bytea) from public;
revoke execute on function finish_mail(bigint, boolean) from public;
revoke execute on function release_mail(bigint) from public;
revoke execute on function email_verified(bigint) from public;
grant execute on function begin_mail(bigint, bytea), finish_mail(bigint, boolean), release_mail(bigint) to warble_mail;
grant execute on function email_verified(bigint) to warble_api;
grant select on schema_version to warble_mail; -- the probe asks

-- register and account
grant select, insert, update, delete on mail_requests to warble_auth;
grant select on mail_tokens to warble_auth;
