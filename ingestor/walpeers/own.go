package main

import (
	"context"
	"sync/atomic"

	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

const (
	spareSegments = 4 // the server's default
	// truncateSegments is how many segments there may be before the log is truncated; in the server the flush decides.
	truncateSegments = 4
)

// own is the ingestor's log behind a committer.
type own struct {
	*committer
	log      *wal.WAL
	groups   atomic.Uint64
	truncate chan struct{}
	joined   chan struct{}
	failed   error // of the truncating goroutine, until joined is closed
}

func openOwn(dir string, w workload) (log, error) {
	o := &own{truncate: make(chan struct{}, 1), joined: make(chan struct{})}
	var err error
	o.log, err = wal.Open(context.Background(), wal.Options{
		Dir: dir, SegmentSizeBytes: w.segmentBytes, SpareSegments: spareSegments, MaxGroupBytes: maxGroupBytes,
		OnGroup: func(wal.GroupStats) { o.groups.Add(1) },
	})
	if err != nil {
		return nil, err
	}
	records := uint32(w.records)
	o.committer = startCommitter(groupAppends(w), func(payloads [][]byte) error {
		for _, p := range payloads {
			if _, err := o.log.Append(wal.Entry{Records: records, Parts: [2][]byte{p, nil}}); err != nil {
				return err
			}
		}
		if err := o.log.Sync(); err != nil {
			return err
		}
		if o.log.SizeBytes() > truncateSegments*w.segmentBytes {
			select {
			case o.truncate <- struct{}{}:
			default:
			}
		}
		return nil
	})
	go o.truncateWhenAsked()
	return o, nil
}

// truncateWhenAsked is a goroutine: it drops full segments, as the processor does after a flush.
func (o *own) truncateWhenAsked() {
	defer close(o.joined)
	for range o.truncate {
		if err := o.log.TruncateBelow(o.log.DurableLSN()); err != nil {
			o.failed = err
			return
		}
	}
}

func (o *own) syncs() (uint64, error) { return o.groups.Load(), nil }

func (o *own) close() error {
	return o.closeAll(func() error {
		close(o.truncate)
		<-o.joined
		return o.failed
	}, o.log.Close)
}

func readOwn(dir string, w workload, fn func([]byte)) error {
	l, err := wal.Open(context.Background(), wal.Options{
		Dir: dir, SegmentSizeBytes: w.segmentBytes, SpareSegments: -1, MaxGroupBytes: maxGroupBytes,
	})
	if err != nil {
		return err
	}
	err = l.Replay(context.Background(), 0, func(f wal.Frame) error {
		fn(f.Payload)
		return nil
	})
	if err != nil {
		return err
	}
	return l.Close()
}
