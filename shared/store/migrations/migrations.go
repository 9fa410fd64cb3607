// Package migrations has the migrations of the schema, one SQL file each, and applies them. It is separate from package store so
// that functions do not link the migration engine.
package migrations

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"

	"github.com/jackc/tern/v2/migrate"

	"warble/shared/store"
)

//go:embed *.sql
var files embed.FS

// Files returns the files of the migrations that Apply applies.
func Files() fs.FS { return files }

// Contraction is a migration after which the code of earlier releases does not work any more.
type Contraction struct {
	File string
	// Serves identifies the oldest code that still works: the number of the newest migration that this code knows, its store.SchemaVersion.
	Serves int
}

// serves matches the comment that marks a migration as a contraction, for example "-- serves: 14".
var serves = regexp.MustCompile(`(?m)^-- serves:(.*)$`)

// Contractions returns the contractions in files with a number above after, in order. It is an error if one names no migration, or
// one after itself.
func Contractions(files fs.FS, after int) (found []Contraction, err error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	for _, name := range names { // 014_drop_the_old_column.sql
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		said := serves.FindSubmatch(text)
		var number, oldest int
		if _, err := fmt.Sscanf(name, "%d_", &number); err != nil {
			return nil, fmt.Errorf("migration %s: expected a name that begins with a number, for example 014_", name)
		}
		if said == nil || number <= after {
			continue
		}
		oldest, err = strconv.Atoi(string(bytes.TrimSpace(said[1])))
		if err != nil || oldest < 1 || oldest > number {
			return nil, fmt.Errorf("migration %s: %q: expected the oldest migration whose code still runs, 1 to %d", name, said[0], number)
		}
		found = append(found, Contraction{name, oldest})
	}
	return found, nil
}

// Apply applies the migrations that conn's database does not have, each in its own transaction. It holds a lock, so that a second
// Apply waits. It returns the version before and after. conn must not go through a pooler. It is an error if the database's collation
// folds capitals in another way than store.Fold.
func Apply(ctx context.Context, conn *store.Conn) (before, after int32, err error) {
	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		return 0, 0, fmt.Errorf("schema_version: %w", err)
	}
	if before, err = migrator.GetCurrentVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("schema_version: %w", err)
	}
	if before >= store.SchemaVersion {
		return before, before, nil // a newer release has migrated the database, and this binary works with its schema
	}
	if err := checkFolding(ctx, conn); err != nil {
		return before, before, err
	}
	if err := migrator.LoadMigrations(files); err != nil {
		return before, before, fmt.Errorf("migrations: %w", err)
	}
	if err := migrator.Migrate(ctx); err != nil {
		return before, before, fmt.Errorf("migrate: %w", err)
	}
	after, err = migrator.GetCurrentVersion(ctx)
	return before, after, err
}

// checkFolding returns an error if the database's collation folds capitals otherwise than store.Fold. In Turkish, I becomes ı, so
// somebody who has registered with an I could not log in.
func checkFolding(ctx context.Context, conn *store.Conn) error {
	const capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var folded string
	if err := conn.QueryRow(ctx, `select lower($1::text)`, capitals).Scan(&folded); err != nil {
		return err
	}
	if want := store.Fold(capitals); folded != want {
		return fmt.Errorf("with the database's collation, Warble would not find all usernames and email addresses: its lower() makes %s of %s: expected %s, as with the locale C or en_US.utf8",
			folded, capitals, want)
	}
	return nil
}
