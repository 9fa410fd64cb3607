-- Group roles carry the rights; the logins that deployments make carry none of their own and join one group each.
-- Roles belong to the whole server, so they may be there already, and two databases may be migrated at once.
do $$
declare
    name text;
begin
    foreach name in array array['warble_owner', 'warble_auth', 'warble_api', 'warble_ops'] loop
        begin
            execute format('create role %I nologin', name);
        exception
            when duplicate_object or unique_violation then null;
        end;
    end loop;

    -- Everything belongs to warble_owner, not to whoever migrates: the next migration may be another's, and a function
    -- that runs with its owner's rights must not run with a superuser's.
    begin
        set local role warble_owner;
        reset role;
    exception
        when insufficient_privilege then execute format('grant warble_owner to %I', current_user);
    end;
end
$$;

revoke all on schema public from public;
grant usage, create on schema public to warble_owner;
grant usage on schema public to warble_auth, warble_api, warble_ops;

alter table schema_version owner to warble_owner;
