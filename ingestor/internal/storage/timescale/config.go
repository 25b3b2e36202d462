package timescale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says where the database is and how long to wait for it. Zero values mean the defaults.
type Config struct {
	// DSN is a postgres:// URL or a keyword/value string. It may hold a password and is never logged.
	DSN string
	// DSNFile names a file that holds the DSN, in place of DSN.
	DSNFile string
	// MaxConnections bounds the pool. Default: 8. Each metrics worker and the record sink use one at a time.
	MaxConnections int32
	// ConnectTimeout bounds one attempt to connect. Default: 5 s.
	ConnectTimeout time.Duration
	// StatementTimeout bounds one statement, a COPY included. Default: 1 min.
	StatementTimeout time.Duration
	// LockTimeout bounds the wait for a lock. Default: 10 s.
	LockTimeout time.Duration
	// TransactionTimeout bounds a transaction as a whole. Default: 5 min.
	TransactionTimeout time.Duration
	// TransactionRecords is the number of records after which a generation goes on in another transaction. Default:
	// 250,000.
	TransactionRecords int
}

const (
	defaultMaxConnections     = 8
	defaultConnectTimeout     = 5 * time.Second
	defaultStatementTimeout   = time.Minute
	defaultLockTimeout        = 10 * time.Second
	defaultTransactionTimeout = 5 * time.Minute
	defaultTransactionRecords = 250_000

	// minConnections leaves one for the lock that migrations are run under and one for the migrations.
	minConnections = 2
)

// Enabled tells whether a database is configured.
func (c *Config) Enabled() bool { return c.DSN != "" || c.DSNFile != "" }

// Validate reports the first unusable setting. It reads no file but those that the DSN itself names.
func (c *Config) Validate() error {
	switch {
	case !c.Enabled():
		return errors.New("timescale: neither dsn nor dsn_file is set")
	case c.DSN != "" && c.DSNFile != "":
		return errors.New("timescale: both dsn and dsn_file are set")
	case c.MaxConnections != 0 && c.MaxConnections < minConnections:
		return fmt.Errorf("timescale: %d connections are too few, the least is %d", c.MaxConnections, minConnections)
	case c.ConnectTimeout < 0 || c.StatementTimeout < 0 || c.LockTimeout < 0 || c.TransactionTimeout < 0:
		return errors.New("timescale: a timeout is negative")
	case c.TransactionRecords < 0:
		return errors.New("timescale: the number of records of a transaction is negative")
	case c.DSN != "":
		return c.CheckDSN()
	}
	return nil
}

// CheckDSN says what is wrong with the DSN, which it reads from DSNFile where that is set. It does not connect.
func (c *Config) CheckDSN() error {
	_, err := c.pool()
	return err
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxConnections, defaultMaxConnections)
	setDefault(&c.ConnectTimeout, defaultConnectTimeout)
	setDefault(&c.StatementTimeout, defaultStatementTimeout)
	setDefault(&c.LockTimeout, defaultLockTimeout)
	setDefault(&c.TransactionTimeout, defaultTransactionTimeout)
	setDefault(&c.TransactionRecords, defaultTransactionRecords)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) dsn() (string, error) {
	if c.DSNFile == "" {
		return c.DSN, nil
	}
	content, err := os.ReadFile(c.DSNFile)
	if err != nil {
		return "", fmt.Errorf("timescale: read dsn_file: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// pool returns the settings of the connection pool. Its errors never hold the DSN.
func (c *Config) pool() (*pgxpool.Config, error) {
	dsn, err := c.dsn()
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The parser's own message quotes the DSN with most passwords masked; most is not enough.
		return nil, errors.New("timescale: the dsn is not a valid postgres URL or keyword/value string")
	}
	pool.MaxConns = c.MaxConnections
	pool.ConnConfig.ConnectTimeout = c.ConnectTimeout
	pool.PingTimeout = c.ConnectTimeout
	// A transaction is rare and large: a round trip before it is a small price for not starting it on a dead
	// connection.
	pool.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	for name, value := range map[string]string{
		"application_name":  "ingestor",
		"statement_timeout": millis(c.StatementTimeout),
		"lock_timeout":      millis(c.LockTimeout),
		// The log is cut on the word of a commit: a role or database that is set to asynchronous commits must not make
		// that word empty.
		"synchronous_commit": "on",
		// A connection that died half-open must not keep its transaction, and with it its locks, for hours.
		"idle_in_transaction_session_timeout": millis(c.StatementTimeout),
		"tcp_keepalives_idle":                 "30",
		"tcp_keepalives_interval":             "10",
		"tcp_keepalives_count":                "3",
		"tcp_user_timeout":                    millis(c.StatementTimeout),
		// Text that is compared and cast by the migrations must not depend on the role's settings.
		"timezone": "UTC",
	} {
		if _, set := pool.ConnConfig.RuntimeParams[name]; !set {
			pool.ConnConfig.RuntimeParams[name] = value
		}
	}
	return pool, nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%d", d.Milliseconds()) }

// address names the server for log lines and error messages, without user or password.
func address(c *pgconn.Config) string { return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database) }
