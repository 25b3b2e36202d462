package main

import (
	"errors"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// raftLog is hashicorp's log behind a committer.
type raftLog struct {
	*committer
	log    *raftwal.WAL
	meta   *metadb.BoltMetaDB
	index  uint64
	stored atomic.Uint64
}

func openRaftWAL(dir string, w workload) (log, error) {
	r, err := openRaft(dir, w)
	if err != nil {
		return nil, err
	}
	r.committer = startCommitter(raft.DefaultConfig().MaxAppendEntries, r.store)
	return r, nil
}

func openRaft(dir string, w workload) (*raftLog, error) {
	meta := &metadb.BoltMetaDB{}
	l, err := raftwal.Open(dir, raftwal.WithSegmentSize(int(w.segmentBytes)), raftwal.WithMetaStore(meta),
		raftwal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &raftLog{log: l, meta: meta}, nil
}

func (r *raftLog) store(payloads [][]byte) error {
	logs := make([]*raft.Log, len(payloads))
	for i, p := range payloads {
		r.index++
		logs[i] = &raft.Log{Index: r.index, Term: 1, Data: p}
	}
	r.stored.Add(1)
	return r.log.StoreLogs(logs)
}

// syncs counts one for each StoreLogs, which is what the log does.
func (r *raftLog) syncs() (uint64, error) { return r.stored.Load(), nil }

// close closes the metadata, too, which the log leaves open.
func (r *raftLog) close() error { return r.closeAll(r.log.Close, r.meta.Close) }

func readRaftWAL(dir string, w workload, fn func([]byte)) error {
	r, err := openRaft(dir, w)
	if err != nil {
		return err
	}
	return errors.Join(readRaftLog(r.log, fn), r.close())
}

func readRaftLog(l *raftwal.WAL, fn func([]byte)) error {
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	var entry raft.Log
	for i := uint64(1); i <= last; i++ {
		if err := l.GetLog(i, &entry); err != nil {
			return err
		}
		fn(entry.Data)
	}
	return nil
}
