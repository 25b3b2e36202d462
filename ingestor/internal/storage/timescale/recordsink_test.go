package timescale

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/internal/pgtest"
)

var walID = [16]byte{0xaa, 1, 2, 3}

// claimed returns a sink that owns the checkpoint, and where that is.
func claimed(t testing.TB, db *Database) (*RecordSink, uint64) {
	t.Helper()
	sink := NewRecordSink(db, walID)
	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	return sink, flushed
}

func TestRecordsComeOutAsTheyWentIn(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, previous := claimed(t, db)
	require.Zero(t, previous)
	for range 5 {
		g := s.generation(t, 1+s.rng.IntN(30))
		require.NoError(t, sink.Flush(t.Context(), g, previous))
		previous = g.Last
		flushed, err := sink.Flushed(t.Context())
		require.NoError(t, err)
		require.Equal(t, g.Last, flushed)
	}
	requireExactly(t, db, s.rows)
	require.Zero(t, count(t, db, "SELECT count(*) FROM ingestor.records WHERE wal_id <> $1", walID))
	require.Equal(t, float64(len(s.rows)), testutil.ToFloat64(db.counters.rows.WithLabelValues("records")))
}

func TestFlushNeedsAClaim(t *testing.T) {
	sink := NewRecordSink(prepared(t), walID)
	require.ErrorContains(t, sink.Flush(t.Context(), newStory(t).generation(t, 1), 0), "before Flushed")
}

func TestBatchesBelowTheCheckpointAreNotStoredAgain(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	first := s.generation(t, 4)
	require.NoError(t, sink.Flush(t.Context(), first, 0))

	// After a restart generations are cut elsewhere: this one holds the flushed batches once more.
	second := s.generation(t, 4)
	second.First = 1
	second.Tables = append(append([]*memtable.Table{}, first.Tables...), second.Tables...)
	require.NoError(t, sink.Flush(t.Context(), second, first.Last))
	requireExactly(t, db, s.rows)
}

func TestGapOfTheLogMovesOnlyTheCheckpoint(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	require.NoError(t, sink.Flush(t.Context(), memtable.NewGap(1, 7), 0))
	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, flushed)
	require.Empty(t, stored(t, db))
	var conflict *ConflictError
	require.ErrorAs(t, sink.Flush(t.Context(), memtable.NewGap(1, 9), 0), &conflict)
	require.Equal(t, 1, count(t, db, "SELECT count(*) FROM ingestor.gaps"), "the conflict left nothing")
	require.Equal(t, 1, count(t, db, "SELECT count(*) FROM ingestor.gaps WHERE wal_id = $1 AND first_lsn = 1 AND last_lsn = 7", sink.walID))
	s.next = 8
	require.NoError(t, sink.Flush(t.Context(), s.generation(t, 3), 7))
	requireExactly(t, db, s.rows)
}

func TestGapInAGenerationIsFatal(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	for name, g := range map[string]*memtable.Generation{
		"a batch is missing at the start": func() *memtable.Generation { s.next = 5; return s.generation(t, 2) }(),
		"the end is missing":              func() *memtable.Generation { s.next = 1; g := s.generation(t, 2); g.Last += 3; return g }(),
		"a batch does not decode": func() *memtable.Generation {
			s.next = 1
			g := s.generation(t, 2)
			g.Tables[0].Batches[0].Raw = []byte{0xff}
			return g
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			var broken *InvariantError
			require.ErrorAs(t, sink.Flush(t.Context(), g, 0), &broken)
			require.True(t, broken.Fatal())
			require.Empty(t, stored(t, db))
		})
	}
}

func TestLongGenerationIsSplitAtBatches(t *testing.T) {
	db := open(t, Config{DSN: pgtest.Database(t), TransactionRecords: 25})
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := s.generation(t, 40)
	require.NoError(t, sink.Flush(t.Context(), g, 0))
	requireExactly(t, db, s.rows)
	transactions := testutil.ToFloat64(db.counters.transactions.WithLabelValues("committed"))
	require.GreaterOrEqual(t, transactions, float64(len(s.rows))/25)
	require.LessOrEqual(t, transactions, 40.0)
	// Each batch lies within one transaction: xmin names it.
	for _, table := range g.Tables {
		for _, b := range table.Batches {
			require.Equal(t, 1, count(t, db, "SELECT count(DISTINCT xmin::text) FROM ingestor.records WHERE lsn BETWEEN $1 AND $2",
				int64(b.First), int64(b.Last)), "batch at LSN %d", b.First)
		}
	}
}

func TestTransactionsShrinkUntilTheDatabaseCanTakeThem(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	const most = 60 // records of a transaction; a batch has up to 20
	execute(t, db, fmt.Sprintf(`
		CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE n int := coalesce(nullif(current_setting('test.rows', true), ''), '0')::int + 1;
		BEGIN
			PERFORM set_config('test.rows', n::text, true);
			IF n > %d THEN RAISE EXCEPTION 'out of shared memory' USING ERRCODE = 'out_of_memory'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER count_rows BEFORE INSERT ON ingestor.records FOR EACH ROW EXECUTE FUNCTION count_rows()`, most))
	g := s.generation(t, 100)
	flushed, attempts := uint64(0), 0
	for flushed < g.Last {
		_ = sink.Flush(t.Context(), g, flushed) // as the processor does: ask, and try again
		var err error
		flushed, err = sink.Flushed(t.Context())
		require.NoError(t, err)
		attempts++
		require.Less(t, attempts, 200)
	}
	requireExactly(t, db, s.rows)
}

func TestPartOfASplitGenerationStaysWhenTheRestFails(t *testing.T) {
	db := open(t, Config{DSN: pgtest.Database(t), TransactionRecords: 1})
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := s.generation(t, 6)
	third := s.rows[len(s.rows)/2]
	execute(t, db, fmt.Sprintf(`
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'disk_full'; END $$;
		CREATE TRIGGER fail BEFORE INSERT ON ingestor.records FOR EACH ROW WHEN (NEW.lsn = %d) EXECUTE FUNCTION fail()`, third.LSN))
	require.ErrorContains(t, sink.Flush(t.Context(), g, 0), "no")

	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	require.Less(t, flushed, uint64(third.LSN))
	requireExactly(t, db, s.rows[:flushed])

	execute(t, db, "DROP TRIGGER fail ON ingestor.records")
	require.NoError(t, sink.Flush(t.Context(), g, flushed))
	requireExactly(t, db, s.rows)
}

func TestConflictStoresNothing(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	first := s.generation(t, 3)
	require.NoError(t, sink.Flush(t.Context(), first, 0))
	var conflict *ConflictError
	require.ErrorAs(t, sink.Flush(t.Context(), first, 0), &conflict)
	require.Equal(t, ConflictError{ExpectedLSN: 0, StoredLSN: first.Last}, *conflict)
	requireExactly(t, db, s.rows)
}

func TestNewOwnerFencesTheOldOne(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	old, _ := claimed(t, db)
	first := s.generation(t, 3)
	require.NoError(t, old.Flush(t.Context(), first, 0))

	owner, flushed := claimed(t, db)
	require.Equal(t, first.Last, flushed)
	second := s.generation(t, 3)
	var fenced *FencedError
	require.ErrorAs(t, old.Flush(t.Context(), second, first.Last), &fenced)
	require.True(t, fenced.Fatal())
	require.Equal(t, FencedError{OwnEpoch: 1, StoredEpoch: 2}, *fenced)
	_, err := old.Flushed(t.Context())
	require.ErrorAs(t, err, &fenced)

	require.NoError(t, owner.Flush(t.Context(), second, first.Last))
	requireExactly(t, db, s.rows)

	execute(t, db, "DELETE FROM ingestor.sink_checkpoints")
	_, err = owner.Flushed(t.Context())
	require.ErrorAs(t, err, &fenced)
	require.Zero(t, fenced.StoredEpoch)
}

func TestCheckpointsOfDifferentLogsAreApart(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	sink, _ := claimed(t, db)
	g := s.generation(t, 3)
	require.NoError(t, sink.Flush(t.Context(), g, 0))
	other := NewRecordSink(db, [16]byte{0xbb})
	flushed, err := other.Flushed(t.Context())
	require.NoError(t, err)
	require.Zero(t, flushed)
	require.NoError(t, other.Flush(t.Context(), g, 0))
	require.Equal(t, 2*len(s.rows), count(t, db, "SELECT count(DISTINCT (wal_id, lsn)) FROM ingestor.records"))
}

// hold makes every COPY wait in mid-transaction until release is called. waiting returns when one does.
func hold(t *testing.T, db *Database, dsn string) (waiting, release func()) {
	execute(t, db, `
		CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE INSERT ON ingestor.records FOR EACH ROW EXECUTE FUNCTION hold()`)
	conn := connect(t, dsn)
	_, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(77)")
	require.NoError(t, err)
	waiting = func() {
		require.Eventually(t, func() bool {
			var n int
			err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted").
				Scan(&n)
			return err == nil && n > 0
		}, time.Minute, time.Millisecond)
	}
	release = func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_advisory_unlock(77)")
		require.NoError(t, err)
	}
	return waiting, release
}

func TestClaimDuringACopyFencesIt(t *testing.T) {
	dsn := pgtest.Database(t)
	db := open(t, Config{DSN: dsn})
	s := newStory(t)
	old, _ := claimed(t, db)
	waiting, release := hold(t, db, dsn)
	g := s.generation(t, 5)
	result := make(chan error, 1)
	go func() { result <- old.Flush(t.Context(), g, 0) }()
	waiting()
	owner, flushed := claimed(t, db)
	require.Zero(t, flushed)
	release()
	var fenced *FencedError
	require.ErrorAs(t, <-result, &fenced)
	require.Empty(t, stored(t, db))
	require.NoError(t, owner.Flush(t.Context(), g, 0))
	requireExactly(t, db, s.rows)
}

func TestServerKilledInMidTransaction(t *testing.T) {
	cluster, dsn := pgtest.Private(t)
	db := open(t, Config{DSN: dsn})
	s := newStory(t)
	sink, _ := claimed(t, db)
	first := s.generation(t, 5)
	require.NoError(t, sink.Flush(t.Context(), first, 0))
	waiting, _ := hold(t, db, dsn)
	second := s.generation(t, 5)
	result := make(chan error, 1)
	go func() { result <- sink.Flush(t.Context(), second, first.Last) }()
	waiting()
	require.NoError(t, cluster.Kill(t.Context()))
	err := <-result
	require.Error(t, err)
	var unknown *CommitUnknownError
	require.NotErrorAs(t, err, &unknown)
	_, err = sink.Flushed(t.Context())
	require.Error(t, err, "the server is down")

	require.NoError(t, cluster.Restart(t.Context()))
	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	require.Equal(t, first.Last, flushed)
	requireExactly(t, db, s.rows[:first.Last])
	require.NoError(t, sink.Flush(t.Context(), second, flushed))
	requireExactly(t, db, s.rows)
}

func TestDatabaseThatIsDownAtTheStart(t *testing.T) {
	cluster, dsn := pgtest.Private(t)
	require.NoError(t, cluster.Kill(t.Context()))
	db := open(t, Config{DSN: dsn})
	sink := NewRecordSink(db, walID)
	_, err := sink.Flushed(t.Context())
	require.Error(t, err)
	_, ready := db.Features()
	require.False(t, ready)

	require.NoError(t, cluster.Restart(t.Context()))
	s := newStory(t)
	flushed, err := sink.Flushed(t.Context())
	require.NoError(t, err)
	require.NoError(t, sink.Flush(t.Context(), s.generation(t, 3), flushed))
	requireExactly(t, db, s.rows)
}

// Owners take the log from each other while each tries to store its next generation: every record is stored once.
func TestRivalOwnersStoreEachRecordOnce(t *testing.T) {
	db := prepared(t)
	s := newStory(t)
	var generations []*memtable.Generation
	for range 10 {
		generations = append(generations, s.generation(t, 3))
	}
	var rivals sync.WaitGroup
	for range 4 {
		rivals.Go(func() {
			for {
				sink := NewRecordSink(db, walID)
				flushed, err := sink.Flushed(context.WithoutCancel(t.Context()))
				if err != nil {
					t.Errorf("claim: %v", err)
					return
				}
				if flushed == s.next-1 {
					return
				}
				for _, g := range generations {
					if g.First == flushed+1 {
						_ = sink.Flush(t.Context(), g, flushed) // may well be fenced
					}
				}
			}
		})
	}
	rivals.Wait()
	requireExactly(t, db, s.rows)
}
