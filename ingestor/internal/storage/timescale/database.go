package timescale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a Database gets from outside.
type Options struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Database is a pool of connections to a database whose schema is up to date. It is safe for concurrent use.
type Database struct {
	config     Config
	pool       *pgxpool.Pool
	sockets    *sockets
	logger     *slog.Logger
	counters   *counters
	partitions partitions

	preparing chan struct{} // has room for one, who runs the migrations; a wait for it ends with its context
	mu        sync.Mutex
	prepared  bool     // guarded by mu
	features  Features // guarded by mu
}

// Features is what the server was found to offer.
type Features struct {
	// Server is PostgreSQL's own version string.
	Server string
	// Timescale is the version of the extension; empty where it is not installed.
	Timescale string
	// Hypertables tells whether the tables are hypertables. If not, they are partitioned natively, by day.
	Hypertables bool
	// Compression tells whether old chunks of records are compressed.
	Compression bool
}

// Open checks the configuration and sets up the pool. It does not connect, so it works while the database is down.
func Open(ctx context.Context, config Config, opts Options) (*Database, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config = config.withDefaults()
	poolConfig, err := config.pool()
	if err != nil {
		return nil, err
	}
	logger := opts.Logger.With("database", address(&poolConfig.ConnConfig.Config))
	poolConfig.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		logger.Debug("database notice", "severity", n.Severity, "message", n.Message)
	}
	sockets := new(sockets)
	poolConfig.ConnConfig.DialFunc = sockets.dialWith(poolConfig.ConnConfig.DialFunc)
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, errors.New("timescale: the pool of connections could not be set up")
	}
	db := &Database{
		config: config, pool: pool, sockets: sockets, logger: logger, counters: newCounters(opts.Registerer), preparing: make(chan struct{}, 1),
	}
	db.partitions = newPartitions(db)
	return db, nil
}

// closeTimeout bounds an orderly end of the connections. A server that does not answer must not hold up a stop.
const closeTimeout = 2 * time.Second

// Close ends the connections. It waits for those in use, but cuts them where that takes too long.
func (db *Database) Close() {
	timer := time.AfterFunc(closeTimeout, db.sockets.close)
	defer timer.Stop()
	db.pool.Close()
}

// Prepare connects, migrates the schema and finds the server's features. After its first success it returns at once.
// Several servers may prepare one database at the same time.
func (db *Database) Prepare(ctx context.Context) error {
	if _, prepared := db.Features(); prepared {
		return nil
	}
	select {
	case db.preparing <- struct{}{}:
		defer func() { <-db.preparing }()
	case <-ctx.Done():
		return fmt.Errorf("timescale: wait for the migrations: %w", ctx.Err())
	}
	if _, prepared := db.Features(); prepared {
		return nil
	}
	if err := db.migrate(ctx); err != nil {
		return fmt.Errorf("timescale: migrate: %w", err)
	}
	if err := db.purge(ctx); err != nil {
		return fmt.Errorf("timescale: remove old checkpoints: %w", err)
	}
	features, err := db.detect(ctx)
	if err != nil {
		return fmt.Errorf("timescale: detect features: %w", err)
	}
	db.mu.Lock()
	db.features, db.prepared = features, true
	db.mu.Unlock()
	db.log(features)
	return nil
}

// purge removes the checkpoints of metric writers that were killed before they could do it.
func (db *Database) purge(ctx context.Context) error {
	_, err := db.pool.Exec(ctx, `DELETE FROM ingestor.metric_checkpoints WHERE updated_at < now() - interval '30 days'`)
	return err
}

// Features returns what Prepare found; false before its first success.
func (db *Database) Features() (Features, bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.features, db.prepared
}

// detect looks at what the tables are, not at what the server could make of new ones: a database that was set up
// without the extension keeps its native partitions when the extension comes later.
func (db *Database) detect(ctx context.Context) (f Features, err error) {
	var encoding string
	err = db.pool.QueryRow(ctx, `
		SELECT current_setting('server_version'),
		       current_setting('server_encoding'),
		       coalesce((SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), '')`).
		Scan(&f.Server, &encoding, &f.Timescale)
	if err != nil {
		return f, err
	}
	if encoding != "UTF8" {
		return f, fmt.Errorf("the database's encoding is %s, UTF8 is needed", encoding)
	}
	if f.Timescale == "" {
		return f, nil
	}
	// The view's columns differ between versions: one that is missing reads as NULL this way.
	err = db.pool.QueryRow(ctx, `
		SELECT coalesce((to_jsonb(h) ->> 'compression_enabled')::boolean, false)
		FROM timescaledb_information.hypertables h
		WHERE hypertable_schema = 'ingestor' AND hypertable_name = 'records'`).Scan(&f.Compression)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, nil
	}
	f.Hypertables = err == nil
	return f, err
}

func (db *Database) log(f Features) {
	if f.Hypertables {
		db.logger.Info("database ready: TimescaleDB with hypertables", "postgresql", f.Server, "timescaledb", f.Timescale,
			"compression", f.Compression)
		return
	}
	db.logger.Info("database ready: plain PostgreSQL with native daily partitions", "postgresql", f.Server,
		"timescaledb", f.Timescale)
}
