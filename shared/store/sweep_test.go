package store_test

import (
	"testing"

	"warble/shared/store/pgtest"
)

func TestSweepsLeaveWhatStillCounts(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	api, auth := d.Open(t, pgtest.API), d.Open(t, pgtest.Auth)
	ada := user(t, d, "ada", "")
	const more = 2500 // than two batches
	for _, sql := range []string{
		`insert into idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
		select 1, 'r', n::text, '', 201, '', now() - case when n <= 3 then interval '23 hours 59 minutes' else interval '24 hours 1 minute' end
		from generate_series(1, 2500) n`,
		`insert into refresh_tokens (token_hash, family, user_id, expires_at, revoked_at)
		select convert_to(n::text, 'UTF8'), n, (select id from users), expires, revoked
		from generate_series(1, 2500) n
		join (values
			(1, now() + interval '1 minute', null),
			(2, now() + interval '1 minute', now() - interval '40 days'),
			(3, now() - interval '1 minute', now() - interval '30 days'),
			(4, now() - interval '1 minute', now() - interval '32 days'),
			(5, now() - interval '1 minute', null)) kind (kind, expires, revoked)
		on kind = least(n, 5)`,
		`insert into login_failures (account, network, failures, last_at)
		select convert_to(n::text, 'UTF8'), '', 1, now() - case when n <= 3 then interval '59 minutes' else interval '61 minutes' end
		from generate_series(1, 2500) n`,
		`insert into known_networks (account, network, last_at)
		select convert_to(n::text, 'UTF8'), '', now() - case when n <= 3 then interval '89 days' else interval '91 days' end
		from generate_series(1, 2500) n`,
	} {
		exec(t, d, sql)
	}
	for range 2 { // nothing is left to sweep, which is no error
		if err := api.SweepKeys(t.Context()); err != nil {
			t.Error(err)
		}
		if err := auth.SweepAccounts(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for table, column := range map[string]string{
		"idempotency_keys": "key",
		"refresh_tokens":   "convert_from(token_hash, 'UTF8')",
		"login_failures":   "convert_from(account, 'UTF8')",
		"known_networks":   "convert_from(account, 'UTF8')",
	} {
		if left := query[string](t, d, `select coalesce(string_agg(`+column+`, ' ' order by `+column+`), '') from `+table); left != "1 2 3" {
			t.Errorf("%s of %d: %s is left, want 1 2 3", table, more, left)
		}
	}
	if n := query[int](t, d, `select count(*) from users where id = $1`, ada); n != 1 {
		t.Error("a sweep took a user")
	}
}
