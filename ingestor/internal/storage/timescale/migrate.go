package timescale

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock that lets one server migrate at a time. Its value has no meaning but to be ours.
const migrationLock = 0x696e676573746f72 // "ingestor"

// migrate brings the schema up to date. The lock is bound to the session, so it ends with a server that is killed here.
func (db *Database) migrate(ctx context.Context) (err error) {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if err := lockMigrations(ctx, conn); err != nil {
		return err
	}
	defer func() {
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), db.config.StatementTimeout)
		defer cancel()
		_, unlockErr := conn.Exec(unlock, "SELECT pg_advisory_unlock($1)", int64(migrationLock))
		err = errors.Join(err, unlockErr)
	}()
	if err := db.installExtension(ctx, conn); err != nil {
		return err
	}
	if err := createSchema(ctx, conn); err != nil {
		return err
	}
	return db.runMigrations(ctx)
}

// lockMigrations waits for another server's migrations as long as ctx allows, hence without the usual timeouts.
func lockMigrations(ctx context.Context, conn *pgxpool.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock))
		return err
	})
}

// installExtension adds TimescaleDB where the server has it. Where it may not (no right to, not preloaded), native
// partitions serve as well, and the log says why.
func (db *Database) installExtension(ctx context.Context, conn *pgxpool.Conn) error {
	var available, installed bool
	err := conn.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb'),
		       EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')`).Scan(&available, &installed)
	if err != nil || !available || installed {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS timescaledb")
	if _, ours := serverError(err); ours {
		db.logger.Warn("TimescaleDB is available but could not be installed", "error", err)
		return nil
	}
	return err
}

// createSchema asks first: CREATE SCHEMA IF NOT EXISTS needs the right to create even where the schema exists.
func createSchema(ctx context.Context, conn *pgxpool.Conn) error {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regnamespace('ingestor') IS NOT NULL").Scan(&exists); err != nil || exists {
		return err
	}
	_, err := conn.Exec(ctx, "CREATE SCHEMA ingestor")
	return err
}

func (db *Database) runMigrations(ctx context.Context) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	sqlDB := stdlib.OpenDBFromPool(db.pool)
	defer func() { err = errors.Join(err, sqlDB.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, files,
		goose.WithTableName("ingestor.schema_migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("the schema has version %d, this program knows up to %d: a newer server has migrated it",
			current, target)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		db.logger.Info("migration applied", "migration", r.Source.Path, "duration", r.Duration)
	}
	return err
}
