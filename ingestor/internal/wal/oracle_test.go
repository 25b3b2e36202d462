package wal

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
)

// sentEntry identifies an entry in the crash tests: the LSN that it got, the attempt, because an LSN that was lost before its ack is given
// out again, to other bytes, and its length. Its bytes follow from these.
type sentEntry struct {
	first        LSN
	attempt      uint32
	payloadBytes uint32
}

// minPayloadBytes holds what identifies an entry.
const minPayloadBytes = 16

// word is the i-th eight bytes of an entry's payload.
func (s sentEntry) word(i int) uint64 {
	switch i {
	case 0:
		return s.first
	case 1:
		return uint64(s.attempt) | uint64(s.payloadBytes)<<32
	}
	x := (s.first*31+uint64(s.attempt))*31 + uint64(i)
	x *= 0x9e3779b97f4a7c15
	return x ^ x>>29
}

func (s sentEntry) records() uint32 { return 1 + uint32(s.first+uint64(s.payloadBytes))%3 }

// entry makes the entry. REQUIRES: payloadBytes >= minPayloadBytes.
func (s sentEntry) entry() Entry {
	payload := make([]byte, 0, s.payloadBytes+8)
	for i := 0; len(payload) < int(s.payloadBytes); i++ {
		payload = binary.LittleEndian.AppendUint64(payload, s.word(i))
	}
	payload = payload[:s.payloadBytes]
	cut := len(payload) / 3
	return Entry{Records: s.records(), Parts: [2][]byte{payload[:cut], payload[cut:]}}
}

// identify returns which entry a frame is, and fails unless it is exactly that, byte by byte.
func identify(f Frame) (sentEntry, error) {
	if len(f.Payload) < minPayloadBytes {
		return sentEntry{}, fmt.Errorf("frame of %d bytes at LSN %d was never sent", len(f.Payload), f.First)
	}
	le := binary.LittleEndian
	s := sentEntry{le.Uint64(f.Payload), le.Uint32(f.Payload[8:]), le.Uint32(f.Payload[12:])}
	same := s.first == f.First && int(s.payloadBytes) == len(f.Payload) && s.records() == f.Records
	rest := f.Payload
	for i := 0; same && len(rest) > 0; i++ {
		word := s.word(i)
		if len(rest) >= 8 {
			same, rest = le.Uint64(rest) == word, rest[8:]
			continue
		}
		for ; len(rest) > 0; rest, word = rest[1:], word>>8 {
			same = same && rest[0] == byte(word)
		}
	}
	if !same {
		return s, fmt.Errorf("frame at LSN %d differs from what was sent", f.First)
	}
	return s, nil
}

// identifyAll replays a whole log.
func identifyAll(w *WAL) (got []sentEntry, err error) {
	err = w.Replay(context.Background(), 0, func(f Frame) error {
		s, err := identify(f)
		got = append(got, s)
		return err
	})
	return got, err
}

// oracle knows what a log must hold after a power cut at this moment: all of must, then any first part of sent. It knows nothing of
// frames and segments, only what was sent and what was answered.
type oracle struct {
	must []sentEntry // acked, or handed to a sink by an earlier replay
	sent []sentEntry // appended since
	// below is what the sinks have flushed, plus 1: the log may have dropped all of must that is below.
	below LSN
	// whole says that it has not: what an earlier recovery found is found again.
	whole bool
}

// ack moves what was sent to what must be there.
func (o *oracle) ack() { o.must, o.sent = append(o.must[:len(o.must):len(o.must)], o.sent...), nil }

// settled is what an oracle knows once a recovery has found got and handed it to a sink.
func (o oracle) settled(got []sentEntry) oracle {
	o.must, o.sent, o.whole = got, nil, true
	return o
}

// judge compares a replay with what must be there.
func (o *oracle) judge(got []sentEntry) error {
	must := o.must
	for !o.whole && len(must) > 0 && must[0].first < o.below && (len(got) == 0 || must[0].first < got[0].first) {
		must = must[1:]
	}
	for i, want := range must {
		if i >= len(got) {
			return fmt.Errorf("%v, and %d after it, were acked or handed to a sink, and are lost", want, len(must)-i-1)
		}
		if got[i] != want {
			return fmt.Errorf("entry %d is %v, must be %v", i, got[i], want)
		}
	}
	for i, extra := range got[len(must):] {
		if i >= len(o.sent) || extra != o.sent[i] {
			return fmt.Errorf("%v was not sent, or not in this order", extra)
		}
	}
	return nil
}

func crashOptions(fsys *crashfs.FS) Options {
	return Options{Dir: "wal", FS: fsys, SegmentSizeBytes: 24 << 10, MaxGroupBytes: 8 << 10, SpareSegments: 1}
}
