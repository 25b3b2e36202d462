package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

const (
	spareSegments = 4 // the server's default
	// truncateSegments is how many segments there may be before the log is truncated; in the server the flush decides.
	truncateSegments = 4
)

// own is the ingestor's log behind a committer as the server has it: one group fills while another is written and synced.
type own struct {
	log     *wal.WAL
	records uint32
	groups  atomic.Uint64
	queue   chan *submission
	// Of the committer. One group is under way at a time; filling is empty unless there is one.
	filling, underWay []*submission
	done              chan struct{}

	truncateAboveBytes int64
	truncate           chan struct{}
	joined             chan struct{}
	failed             error // of the truncating goroutine, until joined is closed
}

func openOwn(dir string, w workload) (log, error) {
	o := &own{
		records: uint32(w.records), queue: make(chan *submission, queueAppends), done: make(chan struct{}),
		truncateAboveBytes: truncateSegments * w.segmentBytes, truncate: make(chan struct{}, 1), joined: make(chan struct{}),
	}
	var err error
	o.log, err = wal.Open(context.Background(), wal.Options{
		Dir: dir, SegmentSizeBytes: w.segmentBytes, SpareSegments: spareSegments, MaxGroupBytes: maxGroupBytes,
		OnGroup: func(wal.GroupStats) { o.groups.Add(1) },
	})
	if err != nil {
		return nil, err
	}
	go o.commit()
	go o.truncateWhenAsked()
	return o, nil
}

func (o *own) append(payload []byte) error { return submit(o.queue, payload) }

// commit is the committer's goroutine. The callers end before the queue is closed, so that nothing is under way then.
func (o *own) commit() {
	defer close(o.done)
	for {
		select {
		case s, open := <-o.queue:
			if !open {
				return
			}
			o.fill(s)
			if len(o.underWay) == 0 {
				o.begin()
			}
		case err := <-o.log.Done():
			completed := o.underWay
			o.underWay = nil
			o.begin()
			answer(completed, err)
			o.truncateIfLong()
			if len(o.filling) == 0 {
				o.filling = completed[:0]
			}
		}
	}
}

// fill appends a payload and all that are queued behind it. A group has room for one of each caller.
func (o *own) fill(s *submission) {
	for s != nil {
		if _, err := o.log.Append(wal.Entry{Records: o.records, Parts: [2][]byte{s.payload, nil}}); err != nil {
			s.result <- err
		} else {
			o.filling = append(o.filling, s)
		}
		select {
		case s = <-o.queue: // nil once closed and empty
		default:
			return
		}
	}
}

// begin hands the group that is filling to the log. REQUIRES: none is under way.
func (o *own) begin() {
	if len(o.filling) == 0 {
		return
	}
	if err := o.log.Begin(); err != nil {
		answer(o.filling, err)
		o.filling = o.filling[:0]
		return
	}
	o.underWay, o.filling = o.filling, nil
}

func answer(group []*submission, err error) {
	for _, s := range group {
		s.result <- err
	}
}

func (o *own) truncateIfLong() {
	if o.log.SizeBytes() <= o.truncateAboveBytes {
		return
	}
	select {
	case o.truncate <- struct{}{}:
	default:
	}
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
	close(o.queue)
	<-o.done
	close(o.truncate)
	<-o.joined
	return errors.Join(o.failed, o.log.Close())
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
