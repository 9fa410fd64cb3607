package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgtest"
)

// capitals are all letters that Fold changes.
const capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Usernames and email addresses are ASCII. Every collation of PostgreSQL folds ASCII like Fold, except those of two languages in which a
// small I has no dot. A database with one of these is refused.
func TestEveryCollationFoldsASCIILikeGoOrIsRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, _ := ownServer(t)
	// One collation of each language and provider.
	collations, err := pgtest.Column(ctx, server.Superuser("postgres"), `
		select distinct on (split_part(translate(collname, '_', '-'), '-', 1), collprovider) quote_ident(collname)
		from pg_collation
		where collprovider <> 'd' and collencoding in (-1, pg_char_to_encoding('UTF8'))
		order by split_part(translate(collname, '_', '-'), '-', 1), collprovider, collname`)
	if err != nil {
		t.Fatal(err)
	}
	var ascii strings.Builder
	for c := byte(1); c < 128; c++ {
		ascii.WriteByte(c)
	}
	conn, err := store.Connect(ctx, server.Superuser("postgres"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	other := make(map[string]bool) // the languages whose collations fold otherwise
	for _, collation := range collations {
		var same bool
		if err := conn.QueryRow(ctx, `select lower($1::text collate `+collation+`) = $2`, ascii.String(), store.Fold(ascii.String())).Scan(&same); err != nil {
			t.Fatalf("%s: %v", collation, err)
		}
		if !same {
			language, _, _ := strings.Cut(strings.Trim(collation, `"`), "-")
			other[strings.Split(language, "_")[0]] = true
		}
	}
	if !other["tr"] {
		t.Skipf("PostgreSQL has %d collations and none of Turkish, because it is built without ICU", len(collations))
	}
	if diff := cmp.Diff(map[string]bool{"tr": true, "az": true}, other); diff != "" {
		t.Errorf("the languages whose collations fold otherwise (-want +got):\n%s", diff)
	}

	for language, refused := range map[string]bool{"tr": true, "az": true, "en": false} {
		if err := pgtest.Exec(ctx, server.Superuser("postgres"), fmt.Sprintf(`create database %s template template0 locale_provider icu icu_locale '%[1]s'`, language)); err != nil {
			t.Fatal(err)
		}
		conn, err := store.Connect(ctx, server.Superuser(language), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		_, after, err := migrations.Apply(ctx, conn)
		if closed := conn.Close(ctx); closed != nil {
			t.Error(closed)
		}
		const expected = "its lower() makes abcdefghıjklmnopqrstuvwxyz of " + capitals + ": expected abcdefghijklmnopqrstuvwxyz"
		switch {
		case refused && (err == nil || after != 0 || !strings.Contains(err.Error(), expected)):
			t.Errorf("%s: at migration %d: %v, want an error with %q", language, after, err, expected)
		case !refused && err != nil:
			t.Errorf("%s: %v", language, err)
		}
	}
}
