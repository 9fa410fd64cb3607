-- Group roles have the rights. The logins that deployments make have no rights of their own; each joins one group. Roles belong to
-- the whole server. So they may exist already, and two databases may be migrated at the same time.
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

    -- Everything belongs to warble_owner, not to the login that migrates. Another login may run the next migration, and a
    -- function with its owner's rights must not have those of a superuser.
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
