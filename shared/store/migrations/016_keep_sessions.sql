set local role warble_owner;

-- A deleted account is hidden immediately. Its row stays, because rows of others refer to it.
alter table users add column deleted_at timestamptz;

-- A login or a registration begins a session: a family of refresh tokens, with the same number. A family that the previous release began
-- gets its row at its first refresh.
create table sessions (
    id           bigint primary key, -- refresh_tokens.family
    user_id      bigint not null references users (id),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    network      text not null default '', -- of the client, '' where it is not known
    user_agent   text not null default '',
    revoked_at   timestamptz
);
create index sessions_by_user on sessions (user_id, id desc);
create index sessions_last on sessions (last_used_at);

insert into sessions (id, user_id, created_at, last_used_at, revoked_at)
select family, user_id, min(created_at), max(created_at), max(revoked_at)
from refresh_tokens
group by family, user_id;

-- Checks that a user may write: the account exists, and the session, which is 0 for none, is not revoked. Every statement that writes for
-- a user calls it. It raises an error instead of returning false, so that no statement can continue. It reads tables that the API's
-- role must not read.
create function check_author(author bigint, session bigint) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from public.users where id = author and deleted_at is null) then
        raise sqlstate 'WA001' using message = 'the account does not exist';
    end if;
    if exists (select from public.sessions where id = session and revoked_at is not null) then
        raise sqlstate 'WA002' using message = 'the session was ended';
    end if;
    return true;
end
$$;

revoke execute on function check_author(bigint, bigint) from public;
grant execute on function check_author(bigint, bigint) to warble_auth, warble_api;
grant select, insert, update, delete on sessions to warble_auth;
