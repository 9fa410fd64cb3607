package store

import (
	"context"
	"fmt"
)

// DatabaseLogin is a database login that a deployment makes. It has the rights of its group and none of its own.
type DatabaseLogin struct {
	Name     string
	Group    string // warble_auth, warble_api, warble_mail or warble_ops
	Password string // empty for a server that trusts its socket
}

// Limits of what a login's statements may take. They are set on the login, not sent by the client, so that they hold
// through PgBouncer, and for whoever else uses the login.
const (
	statementTimeout = "2s"
	lockTimeout      = "1s"  // under CallTimeout: the connection outlives the wait, and the caller hears what it was for
	opsTimeout       = "60s" // relay and readout work in batches
)

// CreateLogin makes a login or brings the one of that name up to date. It takes a superuser's or a role manager's rights.
func CreateLogin(ctx context.Context, conn *Conn, l DatabaseLogin) error {
	// A function sends few statements, and often; those with any($1) PostgreSQL would plan for each request, which takes longer
	// than to run them. What the readout sends is worth a plan.
	timeout, plans := statementTimeout, "force_generic_plan"
	switch l.Group {
	case "warble_auth", "warble_api", "warble_mail":
	case "warble_ops":
		timeout, plans = opsTimeout, "auto"
	default:
		return fmt.Errorf("group %q: expected warble_auth, warble_api, warble_mail or warble_ops", l.Group)
	}
	// Utility statements take no parameters, and format's %L and %I quote as PostgreSQL itself does.
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
			-- pg_stat_activity shows what a session does only to members of its role, and only they may end it: the owner of a
			-- database is no superuser.
			execute format('grant %I to current_user', login);
			execute format('alter role %I set statement_timeout = %L', login, current_setting('warble.statement_timeout'));
			execute format('alter role %I set lock_timeout = %L', login, current_setting('warble.lock_timeout'));
			execute format('alter role %I set plan_cache_mode = %L', login, current_setting('warble.plans'));
			-- The default of 4 is a spinning disk's, and has a page of a hundred users read by going through all of them.
			execute format('alter role %I set random_page_cost = 1.1', login);
		end
		$$`); err != nil {
		return fmt.Errorf("login %s: %w", l.Name, err)
	}
	return nil
}
