package store_test

import (
	"fmt"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"

	"warble/shared/store/pgtest"
)

func TestSweepsKeepRowsThatStillMatter(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	api, auth, ops := d.Open(t, pgtest.API), d.Open(t, pgtest.Auth), d.Open(t, pgtest.Ops)
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
		`insert into mail_requests (kind, address, created_at)
		select 'reset', convert_to(n::text, 'UTF8'), now() - case when n <= 3 then interval '71 hours' else interval '73 hours' end
		from generate_series(1, 2500) n`,
		`insert into mail_tokens (token_hash, request)
		select address, id
		from mail_requests`,
		`insert into windows_taken (experiment, start, pod, taken_at)
		select 'likes', now(), n::text, now() - case when n <= 3 then interval '179 minutes' else interval '181 minutes' end
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
		if err := ops.SweepPeriods(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for table, column := range map[string]string{
		"idempotency_keys": "key",
		"refresh_tokens":   "convert_from(token_hash, 'UTF8')",
		"login_failures":   "convert_from(account, 'UTF8')",
		"known_networks":   "convert_from(account, 'UTF8')",
		"mail_requests":    "convert_from(address, 'UTF8')",
		"mail_tokens":      "convert_from(token_hash, 'UTF8')",
		"windows_taken":    "pod",
	} {
		if left := query[string](t, d, `select coalesce(string_agg(`+column+`, ' ' order by `+column+`), '') from `+table); left != "1 2 3" {
			t.Errorf("%s of %d: %s is left, want 1 2 3", table, more, left)
		}
	}
	if n := query[int](t, d, `select count(*) from users where id = $1`, ada); n != 1 {
		t.Error("a sweep took a user")
	}
}

// The values of events are useful as long as a plan or a readout reads them.
func TestEventsAreKeptWhileAnExperimentNeedsThem(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ops, now := d.Open(t, pgtest.Ops), time.Now()
	metric := func(name, value string) experiment.Metric {
		m := experiment.Metric{Name: name, EventMetric: experiment.EventMetric{Label: name, Unit: "orders", Direction: "up", Kind: experiment.KindSum,
			Event: experiment.EventSource{Type: "shop.order.v1", SubjectIsUnit: true, Value: experiment.EventValue(value)}}}
		m.Default()
		return m
	}
	used, other := metric("used", "n"), metric("other", "m")
	begun := now.AddDate(0, 0, -120)
	if err := ops.StartExperiment(t.Context(), experiment.Start{Name: "shop", Salt: "s", UID: "1", Namespace: "3", PlannedUnits: 10, At: begun, Metrics: []experiment.Metric{used}}); err != nil {
		t.Fatal(err)
	}
	for i, m := range []experiment.Metric{used, other} {
		for age, days := range []int{1, 89, 91, 133, 135} { // two weeks before the start the past of its first unit begins
			if err := ops.RecordEvent(t.Context(), "urn:shop", fmt.Sprint(i, age), now.AddDate(0, 0, -days), []store.MetricEvent{{Metric: m, Occurrence: experiment.Occurrence{Unit: fmt.Sprint(m.Name, days), Value: 1}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func(want string) {
		t.Helper()
		for range 2 { // nothing is left to sweep, which is no error
			if err := ops.SweepEvents(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := query[string](t, d, `select string_agg(unit, ' ' order by unit) from metric_events`); got != want {
			t.Errorf("left are %s, want %s", got, want)
		}
	}
	left("other1 other89 used1 used133 used89 used91")
	if err := ops.ArchiveExperiment(t.Context(), "shop", now); err != nil {
		t.Fatal(err)
	}
	left("other1 other89 used1 used89")
}
