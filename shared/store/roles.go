package store

import (
	"context"
	"fmt"
)

// DatabaseLogin is a login of the database that a deployment makes. It has only the rights of its group.
type DatabaseLogin struct {
	Name     string
	Group    string // warble_auth, warble_api, warble_mail or warble_ops
	Password string // empty if the server trusts connections over its socket
}

// How long a login's statements may take. The limits are set on the login and not sent by the client, so that they also apply
// through PgBouncer, and to other programs that use the login.
const (
	statementTimeout = "2s"
	lockTimeout      = "1s"  // under CallTimeout, so that the caller gets the reason, and the connection stays usable
	opsTimeout       = "60s" // relay and readout work in batches
)

// CreateLogin makes a login, or updates the login of that name. It needs the rights of a superuser or a role manager.
func CreateLogin(ctx context.Context, conn *Conn, l DatabaseLogin) error {
	// A function sends few different statements, and often. PostgreSQL would plan those with any($1) for each request, which takes
	// longer than running them. The statements of the readout are worth a plan each time.
	timeout, plans := statementTimeout, "force_generic_plan"
	switch l.Group {
	case "warble_auth", "warble_api", "warble_mail":
	case "warble_ops":
		timeout, plans = opsTimeout, "auto"
	default:
		return fmt.Errorf("group %q: expected warble_auth, warble_api, warble_mail or warble_ops", l.Group)
	}
	// Utility statements take no parameters. format's %L and %I quote values and names in PostgreSQL's own way.
	_, err := conn.Exec(ctx, `select set_config('warble.login', $1, false), set_config('warble.group', $2, false), set_config('warble.password', $3, false),
		set_config('warble.statement_timeout', $4, false), set_config('warble.lock_timeout', $5, false), set_config('warble.plans', $6, false)`,
		l.Name, l.Group, l.Password, timeout, lockTimeout, plans)
	if err != nil {
		return fmt.Errorf("login %s: %w", l.Name, err)
	}
	defer conn.Exec(ctx, `reset warble.password`) //nolint:errcheck // the connection ends soon, and the setting with it
	if _, err := conn.Exec(ctx, `
		do $$
		declare
			login text := current_setting('warble.login');
		begin
			begin
				execute format('create role %I login', login);
			exception
				when duplicate_object or unique_violation then null;
			end;
			execute format('alter role %I login inherit', login);
			if current_setting('warble.password') <> '' then
				execute format('alter role %I password %L', login, current_setting('warble.password'));
			end if;
			execute format('grant %I to %I', current_setting('warble.group'), login);
			-- Only members of a session's role can see in pg_stat_activity what it does, and may end it. The owner of the database
			-- is no superuser, and so must be a member.
			execute format('grant %I to current_user', login);
			execute format('alter role %I set statement_timeout = %L', login, current_setting('warble.statement_timeout'));
			execute format('alter role %I set lock_timeout = %L', login, current_setting('warble.lock_timeout'));
			execute format('alter role %I set plan_cache_mode = %L', login, current_setting('warble.plans'));
			-- The default of 4 is for spinning disks. With it, PostgreSQL would read the whole table to find a hundred users.
			execute format('alter role %I set random_page_cost = 1.1', login);
		end
		$$`); err != nil {
		return fmt.Errorf("login %s: %w", l.Name, err)
	}
	return nil
}
