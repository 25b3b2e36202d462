package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// etcdSyncs is the histogram in which etcd's log observes its syncs.
const etcdSyncs = "etcd_disk_wal_fsync_duration_seconds"

// etcdLog is etcd's log, with or without a committer.
type etcdLog struct {
	*committer
	log *wal.WAL

	mu    sync.Mutex
	index uint64
}

func openEtcd(ready bool) func(string, workload) (log, error) {
	return func(dir string, w workload) (log, error) {
		l, err := wal.Create(zap.NewNop(), filepath.Join(dir, "etcd"), nil)
		if err != nil {
			return nil, err
		}
		e := &etcdLog{log: l}
		if ready {
			e.committer = startCommitter(groupAppends(w), e.save)
		}
		return e, nil
	}
}

func (e *etcdLog) append(payload []byte) error {
	if e.committer != nil {
		return e.committer.append(payload)
	}
	return e.save([][]byte{payload})
}

// save saves the payloads as one entry each. The index of an entry must be one above that of the entry before, so that the mutex
// is held for as long as that of the log.
func (e *etcdLog) save(payloads [][]byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	entries := make([]*raftpb.Entry, len(payloads))
	term := uint64(1)
	for i, p := range payloads {
		e.index++
		index := e.index
		entries[i] = &raftpb.Entry{Term: &term, Index: &index, Data: p}
	}
	return e.log.Save(nil, entries)
}

func (e *etcdLog) syncs() (uint64, error) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == etcdSyncs {
			return f.GetMetric()[0].GetHistogram().GetSampleCount(), nil
		}
	}
	return 0, fmt.Errorf("etcd has no metric %s", etcdSyncs)
}

func (e *etcdLog) close() error { return e.closeAll(e.log.Close) }

func readEtcd(dir string, _ workload, fn func([]byte)) error {
	l, err := wal.Open(zap.NewNop(), filepath.Join(dir, "etcd"), &walpb.Snapshot{})
	if err != nil {
		return err
	}
	_, _, entries, err := l.ReadAll()
	for _, e := range entries {
		fn(e.Data)
	}
	return errors.Join(err, l.Close())
}
