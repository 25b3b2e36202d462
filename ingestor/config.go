package ingestor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/config"
	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
)

// Config holds every setting of the server. Its yaml tags name the settings for the file, the flags (--wal.segment_bytes)
// and the environment (INGESTOR_WAL_SEGMENT_BYTES); see package config.
type Config struct {
	DataDir   string          `yaml:"data_dir" help:"directory of the log, the Parquet files and the manifest"`
	Listen    ListenConfig    `yaml:"listen"`
	TLS       TLSConfig       `yaml:"tls"`
	Auth      AuthConfig      `yaml:"auth"`
	WAL       WALConfig       `yaml:"wal"`
	Ingest    IngestConfig    `yaml:"ingest"`
	Memtable  MemtableConfig  `yaml:"memtable"`
	Processor ProcessorConfig `yaml:"processor"`
	Parquet   ParquetConfig   `yaml:"parquet"`
	Timescale TimescaleConfig `yaml:"timescale"`
	Metrics   MetricsConfig   `yaml:"metrics"`
	Retention RetentionConfig `yaml:"retention"`
	Kafka     KafkaConfig     `yaml:"kafka"`
	Drain     DrainConfig     `yaml:"drain"`
	Log       LogConfig       `yaml:"log"`
}

// ListenConfig holds the addresses, host:port each; port 0 takes a free one.
type ListenConfig struct {
	GRPC  string `yaml:"grpc" help:"address for clients"`
	Admin string `yaml:"admin" help:"address for health, metrics and profiles; unauthenticated, keep it private"`
}

// TLSConfig turns TLS on where CertFile is set, and mTLS where ClientCAFile is set too.
type TLSConfig struct {
	CertFile     string `yaml:"cert_file" help:"server certificate, PEM; empty means no TLS"`
	KeyFile      string `yaml:"key_file" help:"its private key, PEM"`
	ClientCAFile string `yaml:"client_ca_file" help:"CA that client certificates must come from, PEM; empty means that none is asked for"`
}

// AuthConfig says which credentials count.
type AuthConfig struct {
	KeysFile string    `yaml:"keys_file" help:"YAML file of API keys (hashes)"`
	JWT      JWTConfig `yaml:"jwt"`
}

// JWTConfig turns JWTs on where one of the key sources is set.
type JWTConfig struct {
	Algorithms     []string      `yaml:"algorithms" help:"accepted algorithms: HS256, RS256, ES256, EdDSA"`
	HMACSecretFile string        `yaml:"hmac_secret_file" help:"file with the secret for HS256"`
	JWKSFile       string        `yaml:"jwks_file" help:"file with public keys as a JWK set"`
	JWKSURL        string        `yaml:"jwks_url" help:"URL of a JWK set"`
	Issuer         string        `yaml:"issuer" help:"required iss claim"`
	Audience       string        `yaml:"audience" help:"required aud claim"`
	TenantClaim    string        `yaml:"tenant_claim" help:"claim that holds the tenant"`
	EndpointsClaim string        `yaml:"endpoints_claim" help:"claim that holds the permitted endpoints"`
	Leeway         time.Duration `yaml:"leeway" help:"tolerated clock difference"`
}

// WALConfig tunes the write-ahead log.
type WALConfig struct {
	SegmentBytes  config.ByteSize `yaml:"segment_bytes" help:"size of one segment"`
	SpareSegments int             `yaml:"spare_segments" help:"segments made ready ahead, and kept for reuse"`
	MaxBytes      config.ByteSize `yaml:"max_bytes" help:"size of the log at which writes are refused"`
	MaxGroupBytes config.ByteSize `yaml:"max_group_bytes" help:"most bytes that one fdatasync covers"`
	DirectIO      string          `yaml:"direct_io" help:"O_DIRECT: auto, on or off"`
}

// IngestConfig bounds what a client may send and what waits for the committer.
type IngestConfig struct {
	QueueBytes      config.ByteSize `yaml:"queue_bytes" help:"most bytes that wait for the committer"`
	QueueBatches    int             `yaml:"queue_batches" help:"most batches that wait for the committer"`
	MaxBatchBytes   config.ByteSize `yaml:"max_batch_bytes" help:"largest batch"`
	MaxBatchRecords int             `yaml:"max_batch_records" help:"most records in a batch"`
	MaxRecordBytes  config.ByteSize `yaml:"max_record_bytes" help:"largest record"`
	MaxFuture       time.Duration   `yaml:"max_future" help:"how far ahead of the server's clock a timestamp may lie"`
	MaxProducers    int             `yaml:"max_producers" help:"producers remembered for safe retries; the least recently used is forgotten"`
	StreamWindow    int             `yaml:"stream_window" help:"most unanswered batches of one stream"`
}

// MemtableConfig says when a generation of memtables is sealed and how much memory batches may take.
type MemtableConfig struct {
	BudgetBytes       config.ByteSize `yaml:"budget_bytes" help:"memory for batches, from their receipt until they are flushed"`
	GenerationBytes   config.ByteSize `yaml:"generation_bytes" help:"seal at this size"`
	GenerationRecords int             `yaml:"generation_records" help:"seal at this many records"`
	GenerationAge     time.Duration   `yaml:"generation_age" help:"seal at this age"`
}

// ProcessorConfig holds back the sinks.
type ProcessorConfig struct {
	Paused bool `yaml:"paused" help:"flush nothing: everything stays in the log until a start without this"`
}

// ParquetConfig tunes the Parquet sink.
type ParquetConfig struct {
	Enabled        bool   `yaml:"enabled" help:"write Parquet files"`
	Compression    string `yaml:"compression" help:"zstd, snappy or none"`
	RowGroupRows   int    `yaml:"row_group_rows" help:"rows in a row group"`
	SmallTableRows int    `yaml:"small_table_rows" help:"tables of one tenant with fewer rows share a file"`
	BloomFilter    bool   `yaml:"bloom_filter" help:"add a Bloom filter of the event ids to every row group, 10 bits a record"`
	Threads        int    `yaml:"threads" help:"threads that write Parquet, 1 to 64: each takes row groups of the same file"`
	Nice           int    `yaml:"nice" help:"nice value of the threads that write Parquet, 0 to 19"`
	Start          string `yaml:"start" help:"where the log no longer holds what Parquet lacks: refuse, or now to begin where the log begins"`
}

// TimescaleConfig turns the database sink and LogMetric on where a DSN is given.
type TimescaleConfig struct {
	DSN     config.Secret `yaml:"dsn" help:"postgres:// URL; empty means no database"`
	DSNFile string        `yaml:"dsn_file" help:"file that holds the URL"`
	Records bool          `yaml:"records" help:"write records to the database too, beside metrics"`
	Start   string        `yaml:"start" help:"where the log no longer holds what the database lacks: refuse, or now to begin where the log begins"`
}

// MetricsConfig tunes the path of LogMetric.
type MetricsConfig struct {
	BufferSize    int           `yaml:"buffer_size" help:"metrics that fit into the buffer of one shard"`
	BatchSize     int           `yaml:"batch_size" help:"metrics written in one transaction"`
	FlushInterval time.Duration `yaml:"flush_interval" help:"longest wait for a full batch"`
	Shards        int           `yaml:"shards" help:"buffers, each with a worker of its own"`
}

// RetentionConfig says how long stored rows are kept, by the age of their own timestamps. 0 keeps them for ever. What is in the log is
// stored first, whatever its age.
type RetentionConfig struct {
	Records time.Duration `yaml:"records" help:"how long records are kept, in Parquet and in the database; 0 means for ever"`
	Metrics time.Duration `yaml:"metrics" help:"how long metrics are kept in the database; 0 means for ever"`
	// Tenants apply to records and metrics.
	Tenants     []string      `yaml:"tenants" help:"exceptions, TENANT=DURATION each, for records and metrics"`
	Interval    time.Duration `yaml:"interval" help:"time between two rounds of removal"`
	DeleteAfter time.Duration `yaml:"delete_after" help:"how long a Parquet file stays on the disk that is no longer listed, for readers that have begun"`
}

// KafkaConfig announces new and flushed data on a topic where brokers are given.
type KafkaConfig struct {
	Brokers      []string      `yaml:"brokers" help:"addresses of brokers, host:port; none means no announcements"`
	Topic        string        `yaml:"topic" help:"topic for events; it must exist"`
	Interval     time.Duration `yaml:"interval" help:"least time between two announcements"`
	TLS          bool          `yaml:"tls" help:"encrypt connections to brokers"`
	CAFile       string        `yaml:"ca_file" help:"CA of the brokers, PEM; empty means those of the system"`
	SASL         string        `yaml:"sasl" help:"plain, scram-sha-256 or scram-sha-512; empty means no authentication"`
	User         string        `yaml:"user" help:"SASL user"`
	PasswordFile string        `yaml:"password_file" help:"file that holds the SASL password"`
}

// DrainConfig bounds an orderly stop.
type DrainConfig struct {
	Timeout time.Duration `yaml:"timeout" help:"longest time for clients to finish and for memtables to be flushed; the log keeps the rest"`
}

// What a sink does where the log no longer holds what the sink lacks.
const (
	startRefuse = "refuse"
	startNow    = "now"
)

// LogConfig tunes the server's own messages on standard error.
type LogConfig struct {
	Level  string `yaml:"level" help:"debug, info, warn or error"`
	Format string `yaml:"format" help:"text or json"`
}

// DefaultConfig is a server that needs nothing but a directory and an API key: local log, local Parquet, no database.
func DefaultConfig() Config {
	return Config{
		DataDir: "./data",
		Listen:  ListenConfig{GRPC: "127.0.0.1:9090", Admin: "127.0.0.1:9091"},
		Auth: AuthConfig{JWT: JWTConfig{
			Algorithms: []string{"RS256", "ES256", "EdDSA"}, TenantClaim: "tenant", EndpointsClaim: "endpoints", Leeway: 30 * time.Second,
		}},
		WAL: WALConfig{SegmentBytes: 64 << 20, SpareSegments: 4, MaxBytes: 64 << 30, MaxGroupBytes: 8 << 20, DirectIO: "auto"},
		Ingest: IngestConfig{
			QueueBytes: 64 << 20, QueueBatches: 1 << 15, MaxBatchBytes: 4 << 20, MaxBatchRecords: 65536, MaxRecordBytes: 1 << 20,
			MaxFuture: 24 * time.Hour, MaxProducers: 16384, StreamWindow: 64,
		},
		Memtable:  MemtableConfig{BudgetBytes: 1 << 30, GenerationBytes: 128 << 20, GenerationRecords: 2_000_000, GenerationAge: 10 * time.Second},
		Parquet:   ParquetConfig{Enabled: true, Compression: "zstd", RowGroupRows: 122_880, SmallTableRows: 8192, Threads: 1, Nice: 10, Start: startRefuse},
		Timescale: TimescaleConfig{Records: true, Start: startRefuse},
		Metrics:   MetricsConfig{BufferSize: 65536, BatchSize: 5000, FlushInterval: time.Second, Shards: 2},
		Retention: RetentionConfig{Interval: 10 * time.Minute, DeleteAfter: parquetfile.DefaultDeleteAfter},
		Kafka:     KafkaConfig{Topic: "ingestor-events", Interval: 100 * time.Millisecond},
		Drain:     DrainConfig{Timeout: 30 * time.Second},
		Log:       LogConfig{Level: "info", Format: "text"},
	}
}

// Validate says everything that is wrong with the configuration, not just the first thing.
func (c *Config) Validate() error {
	var problems []error
	check := func(ok bool, setting, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf("%s: %s", setting, fmt.Sprintf(format, args...)))
		}
	}
	check(c.DataDir != "", "data_dir", "must be set")
	check(c.Listen.GRPC != "", "listen.grpc", "must be set")
	check(c.Listen.Admin != "", "listen.admin", "must be set")
	check((c.TLS.CertFile == "") == (c.TLS.KeyFile == ""), "tls", "cert_file and key_file go together")
	check(c.TLS.ClientCAFile == "" || c.TLS.CertFile != "", "tls.client_ca_file", "needs cert_file and key_file")
	check(c.Auth.KeysFile != "" || c.Auth.JWT.enabled(), "auth", "set keys_file, or a key source for jwt: a server without credentials takes nothing")
	check(c.WAL.SegmentBytes >= 1<<20 && c.WAL.SegmentBytes%4096 == 0, "wal.segment_bytes", "must be a multiple of 4 KiB and at least 1MiB")
	check(c.WAL.MaxGroupBytes+8192 <= c.WAL.SegmentBytes, "wal.max_group_bytes", "must fit into a segment (%s)", c.WAL.SegmentBytes)
	check(c.WAL.SpareSegments >= 0, "wal.spare_segments", "must not be negative")
	_, knownMode := directModes[c.WAL.DirectIO]
	check(knownMode, "wal.direct_io", "must be auto, on or off")
	check(c.WAL.MaxBytes >= 2*c.WAL.SegmentBytes, "wal.max_bytes", "must hold two segments at least")
	check(c.Ingest.MaxBatchBytes+8192 <= c.WAL.MaxGroupBytes, "ingest.max_batch_bytes", "must fit into wal.max_group_bytes (%s) with 8 KiB to spare", c.WAL.MaxGroupBytes)
	check(c.Ingest.MaxRecordBytes <= c.Ingest.MaxBatchBytes, "ingest.max_record_bytes", "is larger than a batch")
	check(c.Ingest.QueueBytes >= c.Ingest.MaxBatchBytes, "ingest.queue_bytes", "must hold the largest batch (%s)", c.Ingest.MaxBatchBytes)
	check(c.Ingest.MaxFuture <= maxMaxFuture, "ingest.max_future", "must not be above %s", maxMaxFuture)
	check(c.Ingest.MaxProducers >= 1, "ingest.max_producers", "must be positive")
	check(c.Ingest.StreamWindow >= 1 && c.Ingest.StreamWindow <= 128, "ingest.stream_window", "must lie between 1 and 128, the batches that are remembered of a producer")
	check(c.Memtable.BudgetBytes >= 4*c.Ingest.MaxBatchBytes, "memtable.budget_bytes", "must hold four of the largest batches")
	check(5*c.Memtable.GenerationBytes+c.Ingest.QueueBytes <= c.Memtable.BudgetBytes, "memtable.budget_bytes",
		"must hold five generations (memtable.generation_bytes) and the commit queue (ingest.queue_bytes)")
	check(c.Parquet.Enabled || c.Timescale.enabled() && c.Timescale.Records, "parquet.enabled",
		"is off and no database takes records: nothing would ever leave the log")
	check(slices.Contains([]string{"zstd", "snappy", "none"}, c.Parquet.Compression), "parquet.compression", "must be zstd, snappy or none")
	check(c.Parquet.RowGroupRows >= 1, "parquet.row_group_rows", "must be positive")
	check(c.Parquet.Threads >= 1 && c.Parquet.Threads <= 64, "parquet.threads", "must lie between 1 and 64")
	check(c.Parquet.Nice >= 0 && c.Parquet.Nice <= 19, "parquet.nice", "must lie between 0 and 19")
	check(c.Parquet.Start == startRefuse || c.Parquet.Start == startNow, "parquet.start", "must be refuse or now")
	check(c.Timescale.Start == startRefuse || c.Timescale.Start == startNow, "timescale.start", "must be refuse or now")
	check(c.Retention.Records >= 0, "retention.records", "must not be negative")
	check(c.Retention.Metrics >= 0, "retention.metrics", "must not be negative")
	_, err := retention.ParseTenants(c.Retention.Tenants)
	check(err == nil, "retention.tenants", "%v", err)
	check(c.Retention.Interval > 0, "retention.interval", "must be positive")
	check(c.Retention.DeleteAfter > 0, "retention.delete_after", "must be positive")
	check(c.Drain.Timeout > 0, "drain.timeout", "must be positive")
	var level slog.Level
	check(level.UnmarshalText([]byte(c.Log.Level)) == nil, "log.level", "%q is none of debug, info, warn and error", c.Log.Level)
	check(c.Log.Format == "text" || c.Log.Format == "json", "log.format", "%q is neither text nor json", c.Log.Format)
	return errors.Join(append(problems, c.validateParts()...)...)
}

// maxMaxFuture keeps the latest timestamp within the range of nanoseconds in an int64, which ends in 2262.
const maxMaxFuture = 100 * 365 * 24 * time.Hour

// validateParts asks the parts what they find wrong with what they would get.
func (c *Config) validateParts() []error {
	api, service, metrics := c.ingestionAPI(), c.ingestion(), c.metrics()
	announcements := c.kafka()
	problems := []error{metrics.Validate(), announcements.Validate()}
	if err := api.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("ingest: %w", err))
	}
	if err := service.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("ingest and memtable: %w", err))
	}
	if jwt := c.auth().JWT; c.Auth.JWT.enabled() {
		problems = append(problems, jwt.Validate())
	}
	if database := c.timescale(); c.Timescale.enabled() {
		problems = append(problems, database.Validate())
	}
	return problems
}

// CheckFiles reads the files that the configuration names and says what is wrong with them. It touches nothing else.
func (c *Config) CheckFiles() error {
	credentials := c.auth()
	err := credentials.CheckFiles()
	if database := c.timescale(); c.Timescale.DSNFile != "" {
		err = errors.Join(err, database.CheckDSN())
	}
	if announcements := c.kafka(); announcements.Enabled() {
		err = errors.Join(err, announcements.CheckFiles())
	}
	return err
}

func (j *JWTConfig) enabled() bool {
	return j.HMACSecretFile != "" || j.JWKSFile != "" || j.JWKSURL != ""
}

func (t *TimescaleConfig) enabled() bool { return t.DSN != "" || t.DSNFile != "" }

// LoadFile overwrites the settings that the YAML file names; unknown keys are errors.
func (c *Config) LoadFile(path string) error { return config.LoadFile(c, path) }

// LoadEnv overwrites the settings that environment variables name.
func (c *Config) LoadEnv(environ []string) error { return config.LoadEnv(c, environ) }

// Print writes the configuration as YAML with secrets masked.
func (c *Config) Print(w io.Writer) error { return config.Print(w, c) }
