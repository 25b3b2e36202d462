package processor

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// What went wrong in other systems, each made to happen here. The references are issues on GitHub.

// fieldRig is a whole server on a disk whose power can be cut, and what its clients know.
type fieldRig struct {
	*pipeline
	t    *testing.T
	test *pipelineTest
	h    *ledger
}

func newFieldRig(t *testing.T) *fieldRig {
	t.Helper()
	fsys := crashfs.New()
	require.NoError(t, fsys.MkdirAll("data", 0o755))
	require.NoError(t, fsys.SyncDir("."))
	l, err := openPipeline(fsys, newDatabase("database"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.abandon()) })
	return &fieldRig{
		pipeline: l, t: t, test: &pipelineTest{t: t, deepBound: 1, deepEvery: 1 << 40},
		h: &ledger{records: map[batchID]int{}, acked: map[batchID]uint64{}},
	}
}

// write commits a batch.
func (r *fieldRig) write(sequence uint64, records int) {
	id := batchID{1, sequence}
	r.h.sent = append(r.h.sent, id)
	r.h.records[id] = records
	s, err := r.submit(id, records)
	require.NoError(r.t, err)
	r.h.acked[id] = s.FirstLSN
}

// cutBefore calls visit for the states that a power cut leaves before each operation that want takes, with the database as it is then.
func (r *fieldRig) cutBefore(want func(crashfs.Op) bool, visit func(*crashfs.FS, *database, *ledger) error) (moments *int) {
	moments = new(int)
	r.fs.Before(func(op crashfs.Op) error {
		if !want(op) {
			return nil
		}
		*moments++
		h, db := r.h.clone(), r.database.clone()
		_, _, err := r.fs.Freeze().Visit(40, uint64(*moments), func(f *crashfs.FS, _ uint64) error { return visit(f, db.clone(), h) })
		if err != nil { // not on the test's own goroutine
			r.t.Errorf("power cut before %s of %s: %v", op.Kind, op.Name, err)
		}
		return nil
	})
	return moments
}

func (r *fieldRig) recoverWhole(f *crashfs.FS, db *database, h *ledger) error {
	return r.test.recover(f, db, h, 1, 1)
}

// etcd-io/etcd#14370: a server with a single member answered a client before the entry was saved. The moment at which the client learns of its
// ack, every state that a power cut can leave has the batch.
func TestField_Etcd14370_AckBeforeSave(t *testing.T) {
	r := newFieldRig(t)
	for sequence := uint64(1); sequence <= 4; sequence++ {
		id := batchID{1, sequence}
		r.h.sent, r.h.records[id] = append(r.h.sent, id), 10
		done := make(chan error, 1)
		err := r.send(encode(id, 1, 10), ingestion.WALSynced, func(s *ingestion.Submission) {
			if s.Err != nil {
				done <- s.Err
				return
			}
			r.h.acked[id] = s.FirstLSN
			_, _, err := r.fs.Freeze().Visit(100, 1, func(f *crashfs.FS, _ uint64) error {
				return r.recoverWhole(f, r.database.clone(), r.h)
			})
			done <- err
		})
		require.NoError(t, err)
		require.NoError(t, <-done)
	}
}

// influxdata/influxdb#25277 and #25569: the log was deleted before what it held was persisted elsewhere. Whenever a segment is about to go, and
// whatever a power cut leaves then, the manifest, the snapshot of the dedupe table and the files account for what the segment held.
func TestField_Influxdb25277_LogDeletedBeforePersistence(t *testing.T) {
	r := newFieldRig(t)
	moments := r.cutBefore(func(op crashfs.Op) bool {
		return strings.HasSuffix(op.Name, ".wal") && (op.Kind == crashfs.Remove || op.Kind == crashfs.Rename) ||
			op.Kind == crashfs.SyncDir && op.Name == "data/wal"
	}, func(f *crashfs.FS, db *database, h *ledger) error {
		state, err := manifest.Read(f, "data/manifest")
		if err != nil {
			return err
		}
		for _, file := range state.Files {
			if size, err := f.SizeBytes(path.Join(pipelineParquet, file.Path)); err != nil || size != file.Bytes {
				return fmt.Errorf("%s has %d bytes: %w", file.Path, size, err)
			}
		}
		return r.recoverWhole(f, db, h)
	})
	for sequence := uint64(1); sequence <= 9; sequence++ {
		r.write(sequence, 60)
		if sequence%3 == 0 {
			require.NoError(t, r.flush())
		}
	}
	require.Greater(t, *moments, 6)
	require.Greater(t, r.log.FirstLSN(), uint64(60), "the log was cut")
}

// etcd-io/etcd#13766: what had been applied and the note of how far it had been were not durable together, so that after a crash entries were
// applied twice or not at all. Here a sink's rows and its checkpoint are one transaction, and the manifest only mirrors it: a power cut
// between the two repeats nothing and skips nothing.
func TestField_Etcd13766_ReplaySkippedOrRepeated(t *testing.T) {
	r := newFieldRig(t)
	ahead := 0
	moments := r.cutBefore(func(op crashfs.Op) bool { return strings.HasPrefix(op.Name, "data/manifest") },
		func(f *crashfs.FS, db *database, h *ledger) error {
			if state, err := manifest.Read(f, "data/manifest"); err == nil && db.flushed > state.Flushed["database"] {
				ahead++
			}
			return r.recoverWhole(f, db, h)
		})
	for sequence := uint64(1); sequence <= 4; sequence++ {
		r.write(sequence, 15)
		require.NoError(t, r.flush())
	}
	require.Greater(t, *moments, 10)
	require.NotZero(t, ahead, "the database was ahead of what the manifest said of it")
}

// apache/iceberg#17340: after a restart in the midst of a commit the same data files were committed a second time. Whenever the power is cut while
// files are published and committed, and again after the next server has published what the log still held, every record is in one file.
func TestField_Iceberg17340_CommitRepeatedAfterRestart(t *testing.T) {
	r := newFieldRig(t)
	moments := r.cutBefore(func(op crashfs.Op) bool {
		return strings.HasPrefix(op.Name, pipelineParquet) && op.Kind != crashfs.Write ||
			strings.HasSuffix(op.Name, manifest.FileName) && op.Kind == crashfs.Sync
	}, func(f *crashfs.FS, db *database, h *ledger) error {
		next, err := openPipeline(f, db)
		if err != nil {
			return err
		}
		if err := next.flush(); err != nil {
			return errors.Join(err, next.abandon())
		}
		after := f.Freeze()
		if err := next.abandon(); err != nil {
			return err
		}
		_, _, err = after.Visit(3, 1, func(f *crashfs.FS, _ uint64) error { return r.recoverWhole(f, db.clone(), h) })
		return err
	})
	for sequence := uint64(1); sequence <= 3; sequence++ {
		r.write(sequence, 15)
		require.NoError(t, r.flush())
	}
	require.Greater(t, *moments, 6)
	require.Equal(t, r.database.flushed, r.manifest.Flushed(parquetfile.SinkName))
}
