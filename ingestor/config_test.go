package ingestor_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor"
)

func TestDefaultsNeedOnlyCredentials(t *testing.T) {
	c := ingestor.DefaultConfig()
	require.ErrorContains(t, c.Validate(), "a server without credentials takes nothing")
	c.Auth.KeysFile = "keys.yaml"
	require.NoError(t, c.Validate())
}

func TestValidateNamesEverythingThatIsWrong(t *testing.T) {
	c := ingestor.DefaultConfig()
	c.Auth.KeysFile = "keys.yaml"
	c.WAL.SegmentBytes = 1000
	c.Parquet.Enabled = false
	c.Ingest.StreamWindow = 500
	c.WAL.DirectIO = "perhaps"
	c.TLS.CertFile = "cert.pem"
	c.Auth.JWT.HMACSecretFile = "secret"
	c.Ingest.QueueBytes, c.Ingest.MaxFuture = 1<<20, 1<<62
	c.Memtable.GenerationAge = 0
	c.Parquet.Compression = "lz4"
	c.Timescale.DSN, c.Timescale.Records = "postgres://h:port/d", false
	c.Metrics.Shards = 0
	c.Retention.Tenants, c.Retention.Metrics = []string{"acme=forever"}, -1
	c.Kafka.Brokers, c.Kafka.Topic = []string{"127.0.0.1:9092"}, ""
	c.Log.Level, c.Log.Format = "loud", "xml"
	err := c.Validate()
	for _, want := range []string{
		"wal.segment_bytes", "parquet.enabled", "ingest.stream_window", "wal.direct_io", "tls", "auth.jwt", "ingest.queue_bytes",
		"ingest.max_future", "memtable", "parquet.compression", "the dsn is not a valid", "metrics.shards", "retention.tenants", "retention.metrics", "kafka: a topic", "log.level", "log.format",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestPrintMasksTheDSN(t *testing.T) {
	c := ingestor.DefaultConfig()
	require.NoError(t, c.LoadEnv([]string{"INGESTOR_TIMESCALE_DSN=postgres://u:hunter2@h/d"}))
	var out bytes.Buffer
	require.NoError(t, c.Print(&out))
	require.NotContains(t, out.String(), "hunter2")
	require.Contains(t, out.String(), "generation_age: 10s")
}
