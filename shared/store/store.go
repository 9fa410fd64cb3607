// Package store stores Warble's data in PostgreSQL. Each method runs one statement or one transaction. Its errors are problems
// (shared/problem), so that a handler can return them unchanged.
package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxtrace "gopkg.in/DataDog/dd-trace-go.v1/contrib/jackc/pgx.v5"

	"warble/shared/env"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

const (
	// defaultMaxConns is low on purpose: functions scale by processes, and PostgreSQL can serve hundreds of connections, not thousands.
	defaultMaxConns = 4
	// CallTimeout limits each call, so that a function answers 503 within 2 s if the database goes away.
	CallTimeout = 1500 * time.Millisecond
	// dialTimeout is shorter than CallTimeout, so that the error still reaches the caller.
	dialTimeout = time.Second
	// connectTimeout limits opening a connection, including its login. No call waits that long. A server that hangs does not
	// notice clients that give up. If one client gave up and another tried every second, the server would find all of them in
	// its queue when it continues.
	connectTimeout = 30 * time.Second
)

// DB is a pool of connections, with what this process remembers about the database.
type DB struct {
	pool    *pgxpool.Pool
	timeout time.Duration // of a call
	active  written[userDay]
	exposed written[userArm]
	horizon horizon
	tweets  *batches
	posts   posting
}

// FromEnv reads DATABASE_URL, a PostgreSQL URL or DSN, and DATABASE_MAX_CONNS (4). The DB connects when it is first used. So
// FromEnv neither blocks nor fails if the server is away.
//
// Statements are prepared: BenchmarkCreateTweet takes nearly twice as long without. Some poolers in transaction mode do not support
// prepared statements (PgBouncer before 1.21, or with max_prepared_statements=0). Behind such a pooler, append
// default_query_exec_mode=cache_describe to the URL. Apart from prepared statements, nothing in this package outlives a
// transaction.
func FromEnv(e *env.Reader, t *telemetry.Telemetry) *DB {
	url := e.Required("DATABASE_URL", "a PostgreSQL URL, as postgres://user:password@host:5432/warble")
	maxConns := e.Int("DATABASE_MAX_CONNS", defaultMaxConns, 1, 1000)
	if url == "" {
		return nil
	}
	db, err := open(url, maxConns, t.Tracing())
	if err != nil {
		e.Reject("DATABASE_URL", "(secret)", "a PostgreSQL URL, as postgres://user:password@host:5432/warble")
		return nil
	}
	db.meter(t)
	return db
}

// Open opens url with at most maxConns connections, for tests and tools.
func Open(url string, maxConns int) (*DB, error) { return open(url, maxConns, false) }

func open(url string, maxConns int, tracing bool) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	config.MaxConns = int32(maxConns) //nolint:gosec // at most 1000
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.DialFunc = (&net.Dialer{Timeout: dialTimeout}).DialContext
	config.MaxConnLifetimeJitter = config.MaxConnLifetime / 10
	newPool := pgxpool.NewWithConfig
	if tracing {
		config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.Tracer = withinTraces{c.Tracer}
			return nil
		}
		newPool = func(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
			return pgxtrace.NewPoolWithConfig(ctx, config, pgxtrace.WithTraceConnect(false), pgxtrace.WithTracePrepare(false),
				pgxtrace.WithTraceAcquire(false)) // the pool's metrics show the waiting
		}
	}
	pool, err := newPool(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	db := &DB{pool: pool, timeout: CallTimeout, tweets: &batches{pool: pool, most: maxConns}}
	db.tweets.ended.L = &db.tweets.mu
	if tracing {
		db.tweets.spans = withinTraces{config.ConnConfig.Tracer}
	}
	return db, nil
}

// Limit replaces CallTimeout by another limit for each call. It is for tests, because on a busy machine CallTimeout would end calls
// that are all right. No call may run while Limit is called.
func (db *DB) Limit(call time.Duration) { db.timeout = call }

// withinTraces makes spans for statements of requests whose trace is kept. Statements outside of a request get no span. Otherwise a relay
// would make a trace each time that it reads an empty outbox.
type withinTraces struct{ pgx.QueryTracer }

func (w withinTraces) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !telemetry.Traced(ctx) {
		return ctx
	}
	return w.QueryTracer.TraceQueryStart(ctx, conn, data)
}

func (w withinTraces) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if telemetry.Traced(ctx) {
		w.QueryTracer.TraceQueryEnd(ctx, conn, data)
	}
}

// Close waits for running calls and closes the connections.
func (db *DB) Close() {
	if db != nil {
		db.tweets.close()
		db.pool.Close()
	}
}

// Ready returns nil if the database answers and has at least the migrations that this binary knows. The binary also works with a
// newer schema, because migrations first expand the schema, and contract it a release later.
func (db *DB) Ready(ctx context.Context) error {
	var version int
	err := db.one(ctx, `select version from schema_version`, nil, &version)
	if code(err) == undefinedTable {
		return fmt.Errorf("DATABASE_URL: the database has no schema: expected migration %d, run migrate", SchemaVersion)
	}
	if err != nil {
		return fmt.Errorf("DATABASE_URL: the database does not answer: %w", err)
	}
	if version < SchemaVersion {
		return fmt.Errorf("DATABASE_URL: the database is at migration %d: expected at least %d, run migrate", version, SchemaVersion)
	}
	return nil
}

func (db *DB) meter(t *telemetry.Telemetry) {
	stat := func(read func(*pgxpool.Stat) float64) func() float64 {
		return func() float64 { return read(db.pool.Stat()) }
	}
	t.Gauge("database_pool_max_connections", "Connections this process may open.", stat(func(s *pgxpool.Stat) float64 { return float64(s.MaxConns()) }))
	t.Gauge("database_pool_acquired_connections", "Connections in use.", stat(func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) }))
	t.Gauge("database_pool_idle_connections", "Connections waiting to be used.", stat(func(s *pgxpool.Stat) float64 { return float64(s.IdleConns()) }))
	t.CounterFunc("database_pool_acquires_total", "Connections handed out.", stat(func(s *pgxpool.Stat) float64 { return float64(s.AcquireCount()) }))
	t.CounterFunc("database_pool_waits_total", "Connections handed out that had to be waited for.", stat(func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) }))
	t.CounterFunc("database_pool_wait_seconds_total", "Time spent waiting for a connection.", stat(func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() }))
}

// withDeadline limits a call to CallTimeout, or to the rest of the edge's deadline if that is shorter. A client that hangs up does not end
// the call: pgx would have to close the connection in the middle of a statement, and the next call would have to open a new one.
func (db *DB) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.WithoutCancel(ctx), deadline(ctx, db.timeout))
}

func deadline(ctx context.Context, timeout time.Duration) time.Time {
	until := time.Now().Add(timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	return until
}

// one runs a statement that returns at most one row. Errors: problem.NotFound if it returns none.
func (db *DB) one(ctx context.Context, sql string, args []any, into ...any) error {
	ctx, cancel := db.withDeadline(ctx)
	defer cancel()
	return failure(db.pool.QueryRow(ctx, sql, args...).Scan(into...))
}

// exec runs a statement that returns no rows, and returns how many rows it changed.
func (db *DB) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	ctx, cancel := db.withDeadline(ctx)
	defer cancel()
	tag, err := db.pool.Exec(ctx, sql, args...)
	return tag.RowsAffected(), failure(err)
}

// rows runs a query and reads each row with scan.
func rows[T any](ctx context.Context, db *DB, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	ctx, cancel := db.withDeadline(ctx)
	defer cancel()
	found, err := db.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, failure(err)
	}
	list, err := pgx.CollectRows(found, scan)
	return list, failure(err)
}

// The PostgreSQL error codes that are handled here (PostgreSQL manual, appendix A).
const (
	foreignKeyViolation        = "23503"
	uniqueViolation            = "23505"
	readOnly                   = "25006" // a standby that is not yet promoted
	unknownPreparedStatement   = "26000"
	serializationFailure       = "40001"
	deadlockDetected           = "40P01"
	undefinedTable             = "42P01"
	duplicatePreparedStatement = "42P05"
	lockNotAvailable           = "55P03" // lock_timeout
)

// The error codes that check_author raises (migration 016).
const (
	authorGone   = "WA001"
	sessionEnded = "WA002"
)

// Author is the user who writes, and the session: the sid of the token, or 0 if the token has none. A write is refused with
// problem.Unauthenticated if the author's account was deleted or the session was ended.
type Author struct{ ID, Session int64 }

// code returns the error code of PostgreSQL's answer in err; "" if there is none.
func code(err error) string {
	if pgError, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgError.Code
	}
	return ""
}

// failure turns an error of the driver into a problem. A violated constraint stays as it is, because only the caller knows what it means.
func failure(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return problem.NotFound
	}
	switch code := code(err); code {
	case "": // no answer from the server: refused, cut, or out of time
		return problem.Unavailable.Because(err)
	case readOnly, serializationFailure, deadlockDetected, lockNotAvailable:
		return problem.Unavailable.Because(err)
	case unknownPreparedStatement, duplicatePreparedStatement:
		return fmt.Errorf("DATABASE_URL: its pooler does not support prepared statements: append default_query_exec_mode=cache_describe: %w", err)
	case authorGone:
		return noAccount()
	case sessionEnded:
		return problem.Unauthenticated.Detail("the session of this token was ended: log in again")
	default:
		switch code[:2] {
		case "08", "28", "3D", "53", "57": // connection, login, database, resources, operator's intervention and statement_timeout
			return problem.Unavailable.Because(err)
		}
		return err
	}
}

// violated returns the name of the constraint that was violated; "" if err is another error.
func violated(err error) string {
	if pgError, ok := errors.AsType[*pgconn.PgError](err); ok && (pgError.Code == uniqueViolation || pgError.Code == foreignKeyViolation) {
		return pgError.ConstraintName
	}
	return ""
}

// noAccount returns the problem for a token whose user does not exist in this database.
func noAccount() error {
	return problem.Unauthenticated.Detail("the account of this token does not exist")
}
