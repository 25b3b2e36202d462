package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/dedupe"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// errEnough ends a replay early. It never leaves this file.
var errEnough = errors.New("enough was read")

// frame is a log frame taken apart. Its slices alias the frame's payload.
type frame struct {
	tenant string
	raw    []byte
	header batch.Header
}

// parse takes a frame apart and reads its batch's header. The content was validated before it was logged, and the log's checksum has
// proven that the bytes are those: the rows are only counted here, and a sink that finds one which it cannot decode refuses it. A
// failure means that bytes that passed their checksum are not what was written, which is fatal.
func (f *frame) parse(w *wal.Frame) error {
	tenant, _, raw, err := batch.ParseEnvelope(w.Payload)
	if err != nil {
		return fatalf("log frame at LSN %d: %w", w.First, err)
	}
	if string(tenant) != f.tenant { // the next frame's is mostly the same
		f.tenant = string(tenant)
	}
	f.raw = raw
	if refused := batch.ReadHeader(raw, &f.header); refused != nil {
		return fatalf("log frame at LSN %d: %w", w.First, refused)
	}
	if f.header.Records != w.Records {
		return fatalf("log frame at LSN %d has %d records, its batch %d", w.First, w.Records, f.header.Records)
	}
	return nil
}

// stamp returns the batch's identity; nil where it has none.
func (f *frame) stamp(w *wal.Frame) *dedupe.Stamp {
	h := &f.header
	if !h.HasProducer {
		return nil
	}
	return &dedupe.Stamp{
		Tenant: f.tenant, Producer: h.Producer, Epoch: h.Epoch, Sequence: h.Sequence, FirstLSN: w.First, Records: w.Records,
	}
}

// replayer reads pieces of the log back into memory, in the form that the committer once gave them.
type replayer struct {
	log        Log
	pool       *slab.Pool
	maxRecords uint64
}

// read returns the records from first on, up to last at most, as many whole batches as the pool and maxRecords allow, but
// at least one, with one reference. Where the log has no records at first it returns the gap up to the next one.
//
// That a record is missing is for the log to judge, and it refuses what it cannot explain. A gap in what it replays is one that
// its segments declare: positions that were never given out, or that `wal repair` has reported as lost.
func (r *replayer) read(ctx context.Context, first, last uint64) (*memtable.Generation, error) {
	set := memtable.NewSet()
	now := time.Now()
	next, gapEnd := first, uint64(0)
	var f frame
	err := r.log.Replay(ctx, first, func(w wal.Frame) error {
		switch {
		case w.First > last:
			return errEnough
		case w.First < next:
			return fatalf("log frame at LSN %d where %d is due", w.First, next)
		case w.First > next && set.Empty():
			gapEnd = w.First - 1
			return errEnough
		case w.First > next:
			return errEnough
		}
		err := f.parse(&w)
		if err != nil {
			return err
		}
		buf, ok := r.pool.TryGet(len(f.raw))
		if !ok && !set.Empty() {
			return errEnough
		}
		if !ok { // written when a batch could be larger than the memory is now: it is read alone
			if buf, err = slab.New(2*int64(len(f.raw)), nil).Get(ctx, len(f.raw)); err != nil {
				return err
			}
		}
		copy(buf.Bytes(), f.raw)
		set.Insert(f.tenant, f.header.Endpoint, memtable.Batch{
			Buf: buf, Raw: buf.Bytes(), First: w.First, Last: w.Last(),
			MinTimeUnixNano: f.header.MinTimeUnixNano, MaxTimeUnixNano: f.header.MaxTimeUnixNano,
		}, nil, now)
		next = w.Last() + 1
		if set.Records() >= r.maxRecords {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		set.Discard()
		return nil, fmt.Errorf("read the log from LSN %d: %w", first, err)
	}
	if !set.Empty() {
		return set.Seal(), nil
	}
	if gapEnd == 0 {
		gapEnd = last // no record follows, or only those above last
	}
	if gapEnd > r.log.DurableLSN() {
		return nil, fatalf("the log has no records from LSN %d to %d", first, last)
	}
	return memtable.NewGap(first, gapEnd), nil
}
