package ingestor_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// announcement is the part of a message that the test looks at, written down here again: outside programs depend on its names.
type announcement struct {
	Log   string `json:"log"`
	Kind  string `json:"kind"`
	Sink  string `json:"sink"`
	First uint64 `json:"first_lsn"`
	Last  uint64 `json:"last_lsn"`
}

func TestKafkaHearsOfNewAndFlushedData(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "announcements"))
	require.NoError(t, err)
	defer cluster.Close()
	config, secrets := testConfig(t)
	config.Kafka.Brokers, config.Kafka.Topic, config.Kafka.Interval = cluster.ListenAddrs(), "announcements", time.Millisecond
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("announcements"))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := map[string]announcement{}
	await := func(stage string, last uint64) {
		for seen[stage].Last < last {
			fetches := client.PollFetches(ctx)
			require.NoError(t, fetches.Err())
			fetches.EachRecord(func(record *kgo.Record) {
				var a announcement
				require.NoError(t, json.Unmarshal(record.Value, &a))
				require.Len(t, a.Log, 32)
				require.Equal(t, seen[a.Kind+a.Sink].Last+1, a.First, "%s %s", a.Kind, a.Sink)
				seen[a.Kind+a.Sink] = a
			})
		}
	}

	r := start(t, config, secrets)
	_, err = r.client().WriteBatch(r.ctx(), batchOf("orders", storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, 10))
	require.NoError(t, err)
	await("new_data", 10)
	require.NotContains(t, seen, "flushedparquet", "memtables are an hour old before they are sealed")
	r.drain()
	await("flushedparquet", 10)
	await("committed", 10)
	require.EqualValues(t, 10, seen["new_data"].Last)
}
