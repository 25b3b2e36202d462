package ingestor

import (
	"github.com/ingestor-project/ingestor/ingestor/internal/api/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/api/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/events/kafka"
	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
	ingestionservice "github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	metricsservice "github.com/ingestor-project/ingestor/ingestor/internal/services/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
)

// This file turns the one Config into those of the parts.

func (c *Config) auth() auth.Config {
	config := auth.Config{
		KeysFile: c.Auth.KeysFile,
		TLS:      auth.TLSConfig{CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ClientCAFile: c.TLS.ClientCAFile},
	}
	if jwt := c.Auth.JWT; jwt.enabled() {
		config.JWT = auth.JWTConfig{
			Issuer: jwt.Issuer, Audience: jwt.Audience, Algorithms: jwt.Algorithms, HMACSecretFile: jwt.HMACSecretFile,
			JWKSFile: jwt.JWKSFile, JWKSURL: jwt.JWKSURL, TenantClaim: jwt.TenantClaim, EndpointsClaim: jwt.EndpointsClaim, Leeway: jwt.Leeway,
		}
	}
	return config
}

func (c *Config) ingestionAPI() ingestion.Config {
	config := ingestion.DefaultConfig()
	config.MaxBatchBytes, config.MaxBatchRecords = int(c.Ingest.MaxBatchBytes), c.Ingest.MaxBatchRecords
	config.MaxRecordBytes, config.MaxFuture, config.Window = int(c.Ingest.MaxRecordBytes), c.Ingest.MaxFuture, c.Ingest.StreamWindow
	return config
}

func (c *Config) metricsAPI() metrics.Config {
	config := metrics.DefaultConfig()
	config.MaxFuture = c.Ingest.MaxFuture
	return config
}

func (c *Config) ingestion() ingestionservice.Config {
	config := ingestionservice.DefaultConfig()
	config.QueueBatches, config.QueueBytes = c.Ingest.QueueBatches, int64(c.Ingest.QueueBytes)
	config.Generation = memtable.Limits{
		GenerationBytes: int64(c.Memtable.GenerationBytes), GenerationRecords: uint64(max(0, c.Memtable.GenerationRecords)),
		GenerationAge: c.Memtable.GenerationAge,
	}
	return config
}

func (c *Config) metrics() metricsservice.Config {
	config := metricsservice.DefaultConfig()
	config.BufferSize, config.BatchSize = c.Metrics.BufferSize, c.Metrics.BatchSize
	config.FlushInterval, config.Shards = c.Metrics.FlushInterval, c.Metrics.Shards
	return config
}

// timescale gives each worker of metrics a connection, and the sink of records one. One more is for making partitions.
func (c *Config) timescale() timescale.Config {
	return timescale.Config{
		DSN: c.Timescale.DSN.Reveal(), DSNFile: c.Timescale.DSNFile, MaxConnections: int32(max(0, c.Metrics.Shards) + 2),
	}
}

func (c *Config) kafka() kafka.Config {
	k := c.Kafka
	return kafka.Config{
		Brokers: k.Brokers, Topic: k.Topic, Interval: k.Interval, TLS: k.TLS, CAFile: k.CAFile, SASL: k.SASL, User: k.User,
		PasswordFile: k.PasswordFile,
	}
}

// retention returns how long records and metrics are kept. REQUIRES: Validate has returned nil.
func (c *Config) retention() (records, metrics retention.Policy) {
	tenants, _ := retention.ParseTenants(c.Retention.Tenants)
	return retention.Policy{Default: c.Retention.Records, Tenants: tenants}, retention.Policy{Default: c.Retention.Metrics, Tenants: tenants}
}

// startNow names the sinks that begin where the log begins.
func (c *Config) startNow() (sinks []string) {
	if c.Parquet.Start == startNow {
		sinks = append(sinks, parquetfile.SinkName)
	}
	if c.Timescale.Start == startNow {
		sinks = append(sinks, timescale.SinkName)
	}
	return sinks
}

// sealedBytes is the part of the memory budget for sealed generations. What is left must hold the one that fills, one that has just
// been sealed, one in each sink's hands, and the commit queue, so that a sink that stands still never stops ingestion.
func (c *Config) sealedBytes(sinks int) int64 {
	generations := int64(2+sinks) * int64(c.Memtable.GenerationBytes)
	return max(0, int64(c.Memtable.BudgetBytes)-generations-int64(c.Ingest.QueueBytes))
}

// replayBytes is what each sink may read back from the log at a time. It holds the largest batch: a size class is up to a quarter
// larger than what it was asked for.
func (c *Config) replayBytes() int64 {
	return max(minReplayBytes, int64(c.WAL.MaxGroupBytes)*5/4)
}

// spareSegments is the number as package wal takes it: there 0 is the default and a negative number is none.
func (c *WALConfig) spareSegments() int {
	if c.SpareSegments == 0 {
		return -1
	}
	return c.SpareSegments
}
