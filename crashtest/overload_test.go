package crashtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgtest"
)

// TestAFullQueueRefusesAndDropsNothing: the log is slow and the table of metrics is locked, so that both queues are full most of the time. A
// queue that drops what it has no room for, and says that all is well, is seen once the rest is flushed: all that was acked must be
// there, also what was acked as BUFFERED.
//
// https://github.com/Basekick-Labs/arc/issues/224
func TestAFullQueueRefusesAndDropsNothing(t *testing.T) {
	requireFuse(t)
	run := crashlevel.Start(t, "full queues (FUSE)", "refusals", packagePath)
	dsn := pgtest.Database(t)
	c, power := onPower(t, rngOf(run, 0), crashtest.WithShortQueues(dsn), dsn)
	ctx, cancel := context.WithTimeout(t.Context(), roundTimeout)
	defer cancel()
	lock, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	_, err = lock.Exec(ctx, "BEGIN; LOCK TABLE ingestor.metrics IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	power.SlowLog(100 * time.Millisecond)

	require.NoError(t, c.Overload(ctx, uint64(crashlevel.Pick(t, 20, 200, 10_000))))
	power.Disk.Clear()
	require.NoError(t, lock.Close(ctx))
	require.NoError(t, c.DrainAndJudge(ctx))

	refusals, err := c.Refusals()
	require.NoError(t, err)
	t.Logf("%d batches acked; refused: %v", c.Acked, refusals)
	require.Len(t, refusals, 1)
	require.Positive(t, refusals["ERROR_CODE_OVERLOADED"])
	run.Explored(int64(refusals["ERROR_CODE_OVERLOADED"]))
}
