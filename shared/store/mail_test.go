package store_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/env"
	"warble/shared/problem"
	"warble/shared/store/pgtest"
)

// The role of mail may call only three functions. They give it the address of a waiting request, and no other.
func TestTheRoleOfMailCanReadNoTable(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	may := column(t, d, `
		select relname || ': ' || lower(privilege_type)
		from pg_class, aclexplode(relacl)
		where grantee = 'warble_mail'::regrole
		union all
		select proname || ': ' || lower(privilege_type)
		from pg_proc, aclexplode(proacl)
		where grantee = 'warble_mail'::regrole
		order by 1`)
	want := []string{"begin_mail: execute", "finish_mail: execute", "release_mail: execute", "schema_version: select"}
	if diff := cmp.Diff(want, may); diff != "" {
		t.Errorf("what warble_mail may (-want +got): %s", diff)
	}
	for _, statement := range []string{
		`select * from credentials`, `select * from users`, `select * from mail_requests`, `select * from mail_tokens`,
		`select email_verified(1)`, `select check_author(1, 0)`, `insert into outbox (user_id, type, data) values (1, 'x', '{}')`,
	} {
		if err := pgtest.Exec(t.Context(), d.URL(pgtest.Mail), statement); err == nil {
			t.Errorf("mail may %s", statement)
		}
	}
	for _, login := range []string{pgtest.API, pgtest.Ops} {
		for _, statement := range []string{`select begin_mail(1, '')`, `select finish_mail(1, true)`, `select * from mail_requests`, `select * from mail_tokens`} {
			if err := pgtest.Exec(t.Context(), d.URL(login), statement); err == nil {
				t.Errorf("%s may %s", login, statement)
			}
		}
	}
}

// Go hashes the address of a request, and PostgreSQL the address of an account.
func TestGoAndPostgreSQLHashAnAddressAlike(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	auth := d.Open(t, pgtest.Auth)
	for _, email := range []string{"Ada@Example.COM", "ada@example.com", "K@example.com", "É@example.com", "ı@example.com"} {
		if err := auth.RequestReset(t.Context(), email); err != nil {
			t.Fatal(err)
		}
		if n := query[int](t, d, `select count(*) from mail_requests where address = address_hash($1) and id = (select max(id) from mail_requests)`, email); n != 1 {
			t.Errorf("%s: another hash", email)
		}
	}
}

// onlyVerified makes only users with a verified address post.
var onlyVerified = env.New(func(name string) (string, bool) { return "true", name == "REQUIRE_VERIFIED_EMAIL" })

func TestOnlyVerifiedUsersMayPostIfRequired(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ada := account(t, d, "ada")
	api := d.Open(t, pgtest.API)
	if err := api.MayPost(t.Context(), ada.User.ID); err != nil {
		t.Errorf("without the setting: %v", err)
	}
	api.PostsFromEnv(onlyVerified)
	for _, id := range []int64{ada.User.ID, 1} {
		if err := api.MayPost(t.Context(), id); !errors.Is(err, problem.Forbidden) {
			t.Errorf("%d: %v, want a 403", id, err)
		}
	}
	exec(t, d, `update credentials set verified_at = now()`)
	if err := api.MayPost(t.Context(), ada.User.ID); err != nil {
		t.Error(err)
	}
	maybe := env.New(func(string) (string, bool) { return "maybe", true })
	if api.PostsFromEnv(maybe); maybe.Err() == nil {
		t.Error("maybe is no setting")
	}
	api.PostsFromEnv(onlyVerified)
	exec(t, d, `alter table credentials rename to elsewhere`)
	if err := api.MayPost(t.Context(), ada.User.ID); err != nil { // it is remembered
		t.Error(err)
	}
}
