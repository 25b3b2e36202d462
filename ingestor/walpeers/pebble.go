package main

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
	"github.com/prometheus/client_golang/prometheus"
	promclient "github.com/prometheus/client_model/go"
)

// silent drops what Pebble logs, and panics where it would.
type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, _ ...any) { panic(format) }

// pebbleLog is a Pebble of which only the log is used.
type pebbleLog struct {
	db           *pebble.DB
	segmentBytes int64
	written      atomic.Int64 // since the log file was begun
}

func openPebble(dir string, w workload) (log, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}, DisableAutomaticCompactions: true})
	if err != nil {
		return nil, err
	}
	return &pebbleLog{db: db, segmentBytes: w.segmentBytes}, nil
}

func (p *pebbleLog) append(payload []byte) error {
	if err := p.db.LogData(payload, pebble.Sync); err != nil {
		return err
	}
	written := p.written.Add(int64(len(payload)))
	if written < p.segmentBytes || !p.written.CompareAndSwap(written, 0) {
		return nil
	}
	_, err := p.db.AsyncFlush()
	return err
}

func (p *pebbleLog) syncs() (uint64, error) { return count(p.db.Metrics().LogWriter.FsyncLatency) }

// count is the number of observations of a histogram.
func count(h prometheus.Metric) (uint64, error) {
	var m promclient.Metric
	if err := h.Write(&m); err != nil {
		return 0, err
	}
	return m.GetHistogram().GetSampleCount(), nil
}

func (p *pebbleLog) close() error { return p.db.Close() }

func readPebble(dir string, _ workload, fn func([]byte)) error {
	logs, err := wal.Scan(wal.Dir{FS: vfs.Default, Dirname: dir})
	if err != nil {
		return err
	}
	for _, l := range logs {
		fs, path := l.SegmentLocation(0)
		f, err := fs.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(readPebbleLog(openRecords(record.NewReader, f, uint64(l.Num)), fn), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// openRecords calls record.NewReader, whose second parameter has a type that cannot be named outside Pebble.
func openRecords[N ~uint64](newReader func(io.Reader, N) *record.Reader, r io.Reader, number uint64) *record.Reader {
	return newReader(r, N(number))
}

// readPebbleLog reads a log file by its records: Pebble's own replay leaves out batches without keys.
func readPebbleLog(r *record.Reader, fn func([]byte)) error {
	for {
		next, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		repr, err := io.ReadAll(next)
		if err != nil {
			return err
		}
		entries := batchrepr.Read(repr)
		for {
			kind, data, _, ok, err := entries.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if kind == pebble.InternalKeyKindLogData {
				fn(data)
			}
		}
	}
}
