package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
	"github.com/ingestor-project/ingestor/results"
)

// TestLoadThatIsOverBeforeItsFirstBatch: it is refused before anything is written or dialled.
func TestLoadThatIsOverBeforeItsFirstBatch(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger")
	root := newRoot()
	root.SetArgs([]string{"load", "--rate", "100", "--batch", "1000", "--duration", "5s", "--ledger", ledger})
	err := root.ExecuteContext(t.Context())
	require.ErrorContains(t, err, "a batch of 1000 records takes longer than the 5s")
	require.Equal(t, results.ExitBadInput, exitCode(err))
	require.NoFileExists(t, ledger)
}

// TestLoadFlagsWithoutEffect: none is ignored without a word.
func TestLoadFlagsWithoutEffect(t *testing.T) {
	replay := slices.Clip([]string{"--replay", "host.csv", "--timestamp-column", "ts"})
	for _, c := range []struct {
		args  []string
		wrong string
	}{
		{append(replay, "--duration", "5s"), "--duration has no meaning with --replay"},
		{append(replay, "--records", "10"), "--records has no meaning with --replay"},
		{append(replay, "--warm-up", "1s"), "--warm-up has no meaning with --replay"},
		{append(replay, "--rate", "100", "--time-scale", "2"), "[rate time-scale]"},
		{[]string{"--time-scale", "2"}, "--time-scale has a meaning only with --replay"},
	} {
		root := newRoot()
		root.SetArgs(append([]string{"load"}, c.args...))
		err := root.ExecuteContext(t.Context())
		require.ErrorContains(t, err, c.wrong)
		require.Equal(t, results.ExitBadInput, exitCode(err))
	}
}

// TestLoadPrintsTheAckLevelThatCameBack: a rate against a server that stores nothing must not look durable.
func TestLoadPrintsTheAckLevelThatCameBack(t *testing.T) {
	buffered, synced := storagepb.AckLevel_ACK_LEVEL_BUFFERED, storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
	counts := engine.Counts{Batches: 2, Records: 2000}
	for _, test := range []struct {
		acked engine.AckLevels
		line  string
		code  int
	}{
		{engine.AckLevels{synced: counts}, "ack level wal_synced\n", 0},
		{engine.AckLevels{buffered: counts}, "ack level buffered, asked for wal_synced\n", results.ExitFail},
		{engine.AckLevels{buffered: counts, synced: counts},
			"ack level mixed (2000 records buffered, 2000 records wal_synced), asked for wal_synced\n", results.ExitFail},
		{engine.AckLevels{}, "ack level none, asked for wal_synced\n", 0},
	} {
		h := hdrhistogram.New(1, 10, 1)
		result := &engine.Result{
			Config:   engine.Config{AckLevel: synced},
			Measured: engine.PhaseResult{Duration: time.Second, AckedAt: test.acked, Response: h, Service: h, Lag: h},
		}
		var out bytes.Buffer
		require.NoError(t, writeLoadResult(&out, result))
		require.Contains(t, out.String(), test.line)
		require.Equal(t, test.code, exitCode(checkAckLevel(result)))
	}
}
