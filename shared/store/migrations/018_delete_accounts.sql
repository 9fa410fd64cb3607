set local role warble_owner;

-- Accounts that were deleted. finished_at is when the last of their data was removed. Until then, the rows of this table hide their
-- tweets; few rows are unfinished.
create table deletions (
    user_id      bigint primary key references users (id),
    requested_at timestamptz not null default now(),
    finished_at  timestamptz
);
create index deletions_due on deletions (requested_at) where finished_at is null;

-- A deleted account's username is never given to another account. Only a hash of it is stored.
create function username_hash(username text) returns bytea
language sql immutable strict parallel safe
return sha256(convert_to(lower(username), 'UTF8'));

create table retired_usernames (
    hash bytea primary key
);

-- It is a trigger and not a part of the statement that registers, so that it also applies to the previous release. It fails like a name
-- that is taken.
create function refuse_retired_username() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from public.retired_usernames where hash = public.username_hash(new.username)) then
        raise unique_violation using message = 'the username was retired', constraint = 'users_username';
    end if;
    return new;
end
$$;
create trigger refuse_retired_username before insert on users for each row execute function refuse_retired_username();

-- Removes the data of a deleted account, at most batch rows of each kind, and returns whether there is more. Rows that metrics count stay:
-- tweets, retweets and likes as tombstones, feedback without its text, activity and exposures.
create function finish_deletion(victim bigint, batch integer) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    changed integer;
    more    boolean := false;
begin
    perform from public.deletions where user_id = victim and finished_at is null for update;
    if not found then
        return false;
    end if;

    with gone as (
        update public.tweets
        set text = '', deleted_at = now()
        where ctid = any (array(select ctid from public.tweets where author_id = victim and deleted_at is null limit batch))
        returning retweet_of
    ),
    uncounted as (
        update public.tweet_counts c
        set retweets = c.retweets - g.n
        from (select retweet_of, count(*) as n from gone where retweet_of is not null group by retweet_of) g
        where c.tweet_id = g.retweet_of
    )
    select count(*) from gone into changed;
    more := more or changed = batch;

    with gone as (
        update public.likes
        set deleted_at = now()
        where ctid = any (array(select ctid from public.likes where user_id = victim and deleted_at is null limit batch))
        returning tweet_id
    ),
    uncounted as (
        update public.tweet_counts c
        set likes = c.likes - g.n
        from (select tweet_id, count(*) as n from gone group by tweet_id) g
        where c.tweet_id = g.tweet_id
    )
    select count(*) from gone into changed;
    more := more or changed = batch;

    update public.feedback
    set text = ''
    where ctid = any (array(select ctid from public.feedback where user_id = victim and text <> '' limit batch));
    get diagnostics changed = row_count;
    more := more or changed = batch;

    delete from public.idempotency_keys
    where ctid = any (array(select ctid from public.idempotency_keys where user_id = victim limit batch));
    get diagnostics changed = row_count;
    more := more or changed = batch;

    -- Subscribers must get the event that the account was deleted. Earlier events have data of the person.
    delete from public.outbox
    where ctid = any (array(
        select ctid
        from public.outbox
        where partition = (victim >> 22) & 15 and user_id = victim and type <> 'dev.warble.user.deleted.v1'
        limit batch));
    get diagnostics changed = row_count;
    more := more or changed = batch;
    delete from public.dead_letters where user_id = victim and type <> 'dev.warble.user.deleted.v1';

    if not more then
        delete from public.refresh_tokens where family in (select id from public.sessions where user_id = victim);
        delete from public.sessions where user_id = victim;
        loop
            begin
                update public.users
                set name = '', username = 'deleted_' || substr(md5(random()::text), 1, 7)
                where id = victim;
                exit;
            exception
                when unique_violation then null; -- another has that name: draw once more
            end;
        end loop;
        update public.deletions set finished_at = now() where user_id = victim;
    end if;
    return more;
end
$$;

revoke execute on function finish_deletion(bigint, integer) from public;
grant execute on function finish_deletion(bigint, integer) to warble_ops;
grant select, update on deletions to warble_ops;

-- account: the deletion, and the export of a user's own data
grant update (deleted_at) on users to warble_auth;
grant delete on credentials to warble_auth;
grant insert on deletions, retired_usernames to warble_auth;
grant select on tweets, likes, feedback, activity to warble_auth;
-- to hide the tweets of deleted accounts
grant select on deletions to warble_api;
