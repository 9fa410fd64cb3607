// Package migrations holds the schema's history, one SQL file a step, and applies it. It is no part of package store, so
// that no function links the engine, which it does not need.
package migrations

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/tern/v2/migrate"

	"warble/shared/store"
)

//go:embed *.sql
var files embed.FS

// Apply applies the migrations that conn's database lacks, each in a transaction of its own, under a lock: of two
// that run at once, one waits. It returns the version before and after. conn must not go through a pooler.
func Apply(ctx context.Context, conn *store.Conn) (before, after int32, err error) {
	migrator, err := migrate.NewMigrator(ctx, conn, "public.schema_version")
	if err != nil {
		return 0, 0, fmt.Errorf("schema_version: %w", err)
	}
	if before, err = migrator.GetCurrentVersion(ctx); err != nil {
		return 0, 0, fmt.Errorf("schema_version: %w", err)
	}
	if before >= store.SchemaVersion {
		return before, before, nil // a newer release was here; this binary runs on its schema
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
