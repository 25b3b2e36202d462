package acks_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest/acks"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

func TestOnlyAckedBatchesCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	writer, err := ledger.Create(path, ledger.Header{Tenants: []string{"alpha"}, Endpoints: []string{"orders"}})
	require.NoError(t, err)
	for sequence := uint64(1); sequence <= 3; sequence++ {
		require.NoError(t, writer.Sent(ledger.Sent{Batch: record.Batch{Sequence: sequence, Records: 5}, Epoch: 1}))
		batches, err := acks.Count(path, writer)
		require.NoError(t, err)
		require.Equal(t, sequence-1, batches)
		require.NoError(t, writer.Acked(ledger.Acked{Epoch: 1, Sequence: sequence, Records: 5, FirstLSN: sequence}))
	}
	require.NoError(t, writer.Sent(ledger.Sent{Batch: record.Batch{Sequence: 4, Records: 5}, Epoch: 1}))
	require.NoError(t, writer.Refused(ledger.Refused{Epoch: 1, Sequence: 4, Code: 1}))
	batches, err := acks.Count(path, writer)
	require.NoError(t, err)
	require.Equal(t, uint64(3), batches)
	require.NoError(t, writer.Close())
}
