package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SchemaVersion is the newest migration that this binary knows. A test compares it with the files.
const SchemaVersion = 22

// Version returns the number of the newest migration of conn's database; 0 if it has none.
func Version(ctx context.Context, conn *Conn) (version int, err error) {
	err = conn.QueryRow(ctx, `select version from schema_version`).Scan(&version)
	if code(err) == undefinedTable {
		return 0, nil
	}
	return version, err
}

// Conn is a connection of the owner. Because of this name, commands need not import the driver.
type Conn = pgx.Conn

// answerLimit is how long one try of Connect may take, at least, even if wait is shorter: a server on a busy machine answers, but slowly.
const answerLimit = 10 * time.Second

// Connect opens one connection for the owner, without a pool. If the server does not answer, Connect tries again, for as long as
// wait, because a Job may start before its database. A wrong password or an unknown database is an error immediately, because
// waiting would not help.
func Connect(ctx context.Context, url string, wait time.Duration) (*Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	last := time.Now().Add(max(wait, dialTimeout))
	ctx, cancel := context.WithTimeout(ctx, max(wait, answerLimit))
	defer cancel()
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn, nil
		}
		if class := code(err); class != "" && (class[:2] == "28" || class[:2] == "3D") {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
		if ctx.Err() != nil || time.Now().After(last) {
			return nil, fmt.Errorf("no answer within %s: %w", wait, err)
		}
	}
}
