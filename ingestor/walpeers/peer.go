package main

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

const (
	recordBytes = 100
	blockBytes  = 4 << 10
	// maxGroupBytes bounds what one sync covers, as in the server's default configuration.
	maxGroupBytes = 8 << 20
)

// workload says what callers do.
type workload struct {
	callers, records int
	// segmentBytes is the size of a log file.
	segmentBytes int64
}

func (w workload) String() string { return fmt.Sprintf("%d x %d", w.callers, w.records) }

func (w workload) payloadBytes() int { return w.records * recordBytes }

// log is a peer that is open.
type log interface {
	// append returns once the payload is durable. Any number of goroutines call it. It keeps no reference.
	append(payload []byte) error
	// syncs counts the calls of fsync or fdatasync for what was appended.
	syncs() (uint64, error)
	close() error
}

// peer is one thing to measure.
type peer struct {
	name string
	// single says that one caller appends what all would, at once.
	single bool
	open   func(dir string, w workload) (log, error)
	// read calls fn for every payload in the log of dir, which is closed. The payload is valid during the call.
	read func(dir string, w workload, fn func(payload []byte)) error
}

var peers = []peer{
	{name: "wal", open: openOwn, read: readOwn},
	{name: "raw", single: true, open: openRaw(direct), read: readRaw},
	{name: "cached", single: true, open: openRaw(cached), read: readRaw},
	{name: "grouped", open: openRaw(grouped), read: readRaw},
	{name: "pebble", open: openPebble, read: readPebble},
	{name: "etcd", open: openEtcd(false), read: readEtcd},
	{name: "etcd-ready", open: openEtcd(true), read: readEtcd},
	{name: "raft-wal", open: openRaftWAL, read: readRaftWAL},
}

// identity tells a payload from all others.
type identity struct{ caller, number uint32 }

const (
	payloadMagic  = 0x57414c50
	identityBytes = 12
)

// stamp makes b the payload with the identity. The rest of b, which fill has made, stays.
func (id identity) stamp(b []byte) {
	binary.LittleEndian.PutUint32(b, payloadMagic)
	binary.LittleEndian.PutUint32(b[4:], id.caller)
	binary.LittleEndian.PutUint32(b[8:], id.number)
}

// fill makes the part of a caller's payloads that is always the same.
func fill(b []byte, caller uint32) {
	for i := range b {
		b[i] = byte(uint32(i)*2654435761>>13) ^ byte(caller)
	}
}

// identify returns the identity of a payload and a hash of all of it; false where b does not begin like a payload.
func identify(b []byte) (id identity, sum uint64, ok bool) {
	if len(b) < identityBytes || binary.LittleEndian.Uint32(b) != payloadMagic {
		return id, 0, false
	}
	h := fnv.New64a()
	h.Write(b)
	return identity{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}, h.Sum64(), true
}
