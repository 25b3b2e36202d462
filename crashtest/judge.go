package crashtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sort"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Remains is what the server's disk and its database hold while no server runs: the log, and how far each sink has come with it.
type Remains struct {
	log *durableLog
	// flushed is the last LSN of each sink. It is that of the sink itself, not what another one remembers of it.
	flushed map[string]uint64
}

const (
	parquetSink  = "parquet"
	databaseSink = "database"
)

// ReadRemains reads what is left in a data directory, and in a database unless dsn is empty. REQUIRES: the server has ended.
func ReadRemains(ctx context.Context, dataDir, dsn string) (*Remains, error) {
	log, err := readDurableLog(filepath.Join(dataDir, "wal"))
	if err != nil {
		return nil, err
	}
	manifest, err := verify.ReadManifest(dataDir)
	if err != nil {
		return nil, err
	}
	r := &Remains{log: log, flushed: map[string]uint64{parquetSink: manifest.Flushed[parquetSink]}}
	if id := hex.EncodeToString(log.id[:]); manifest.WALID != "" && log.last > 0 && manifest.WALID != id {
		return nil, fmt.Errorf("judge: the manifest speaks of log %s, the log is %s", manifest.WALID, id)
	}
	if dsn != "" {
		flushed, err := verify.Checkpoints(ctx, dsn)
		if err != nil {
			return nil, err
		}
		r.flushed[databaseSink] = flushed[log.id]
	}
	return r, nil
}

// everywhere is the LSN up to which every sink has everything.
func (r *Remains) everywhere() uint64 { return slices.Min(slices.Collect(maps.Values(r.flushed))) }

// batchAt returns the logged batch that begins at an LSN, or nil.
func (r *Remains) batchAt(first uint64) *loggedBatch {
	batches := r.log.batches
	i := sort.Search(len(batches), func(i int) bool { return batches[i].first >= first })
	if i == len(batches) || batches[i].first != first {
		return nil
	}
	return &batches[i]
}

// CheckSinks says which sink claims to hold what the log never held durably.
func (r *Remains) CheckSinks() error {
	for name, flushed := range r.flushed {
		if flushed > r.log.last {
			return fmt.Errorf("judge: the checkpoint of sink %s is LSN %d, ahead of the durable log, which ends at %d", name, flushed, r.log.last)
		}
	}
	return nil
}

// CheckAcks says which acked batch of the ledgers is neither in every sink nor whole in the log, where it says that it is. It goes by log
// positions; that the content is right is judged once all is flushed.
func (r *Remains) CheckAcks(ledgers ...string) error {
	for _, path := range ledgers {
		book, err := ledger.Open(path)
		if err != nil {
			return err
		}
		if book.Header.Kind != ledger.Records {
			continue
		}
		for number, p := range book.Producers {
			for i := range p.Batches {
				if err := r.checkAck(&p.Batches[i]); err != nil {
					return fmt.Errorf("judge: %s: producer %d, sequence %d: %w", filepath.Base(path), number, p.First+uint64(i), err)
				}
			}
		}
	}
	return nil
}

func (r *Remains) checkAck(b *ledger.Batch) error {
	if b.State != ledger.Stored || b.Level == byte(storagepb.AckLevel_ACK_LEVEL_BUFFERED) {
		return nil
	}
	last := b.FirstLSN + uint64(b.Records) - 1
	switch everywhere := r.everywhere(); {
	case b.FirstLSN == 0:
		return errors.New("acked as durable without an LSN")
	case last <= everywhere:
		return nil
	case b.Level == byte(storagepb.AckLevel_ACK_LEVEL_COMMITTED):
		return fmt.Errorf("acked as committed with LSN %d to %d, but the sinks have come to %v", b.FirstLSN, last, r.flushed)
	}
	if logged := r.batchAt(b.FirstLSN); logged == nil || logged.records != b.Records {
		return fmt.Errorf("acked with LSN %d to %d, but the log, which ends at %d, has no such batch, and the sinks have come to %v",
			b.FirstLSN, last, r.log.last, r.flushed)
	}
	return nil
}

// CheckSame says what of the log a second recovery has changed, where no batch was taken in between: above what was flushed, it must hold the
// same batches.
func (r *Remains) CheckSame(again *Remains) error {
	above := max(r.everywhere(), again.everywhere())
	if again.everywhere() < r.everywhere() {
		return fmt.Errorf("judge: a second recovery has moved the sinks back from %v to %v", r.flushed, again.flushed)
	}
	if first, second := r.above(above), again.above(above); !slices.Equal(first, second) {
		return fmt.Errorf("judge: a second recovery has changed the log above LSN %d: %d batches, then %d; it ended at %d, then at %d",
			above, len(first), len(second), r.log.last, again.log.last)
	}
	return nil
}

// above returns the batches that reach above an LSN.
func (r *Remains) above(lsn uint64) []loggedBatch {
	batches := r.log.batches
	return batches[sort.Search(len(batches), func(i int) bool { return batches[i].last() > lsn }):]
}

// JudgeRemains judges what a crash has left, before anything recovers from it. It returns what there is.
func (c *Campaign) JudgeRemains(ctx context.Context) (*Remains, error) {
	if c.load != nil {
		for _, b := range c.load.books {
			if err := b.writer.Flush(); err != nil {
				return nil, err
			}
		}
	}
	r, err := ReadRemains(ctx, c.server.DataDir(), c.DSN)
	if err == nil {
		err = errors.Join(r.CheckSinks(), r.CheckAcks(c.round...))
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, c.server.LogTail())
	}
	c.Judged++
	return r, nil
}

// judgeRecoveries recovers twice from what a crash has left, the second time from what a SIGKILL right after the first leaves. Nothing is
// sent meanwhile. Both must find the same. It leaves the server dead.
func (c *Campaign) judgeRecoveries(ctx context.Context) error {
	found, err := c.JudgeRemains(ctx)
	for range 2 {
		if err != nil {
			return err
		}
		if err = c.restart(ctx); err != nil {
			return err
		}
		if _, err = c.server.Kill(); err != nil {
			return err
		}
		var again *Remains
		if again, err = c.JudgeRemains(ctx); err == nil {
			err = found.CheckSame(again)
			found = again
		}
	}
	return err
}
