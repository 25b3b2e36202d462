package dedupe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The snapshot's format. Integers marked * are unsigned varints, the others little-endian.
//
//	+-------+---------+------------+-------------+---~ ~---+--------+
//	| magic | version | appliedLSN | producers * | entries | CRC32C |
//	| 4 B   | 1 B     | 8 B        |             |         | 4 B    |
//	+-------+---------+------------+-------------+---~ ~---+--------+
//
// A producer: length of tenant *, tenant, producer ID (16 B), epoch *, number of batches *, and for each batch,
// oldest first: sequence *, first LSN *, records *. The first sequence and LSN of a producer are absolute, the others
// the distance to the one before. Producers are in the order in which they last stored a batch, the most recent last.
// The checksum covers all bytes before it.
const (
	snapshotMagic   = "INDD"
	snapshotVersion = 1
	headerBytes     = len(snapshotMagic) + 1 + 8
	checksumBytes   = 4
	// The least that a producer and a batch take: they bound what a count in a snapshot can make the decoder allocate.
	minProducerBytes = 1 + 16 + 1 + 1 + minBatchBytes
	minBatchBytes    = 3
)

// ErrCorruptSnapshot is what DecodeSnapshot's errors wrap.
var ErrCorruptSnapshot = errors.New("corrupt dedupe snapshot")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendSnapshot appends the table's encoding to dst and returns it. REQUIRES: nothing is staged.
func (t *Table) AppendSnapshot(dst []byte) []byte {
	if len(t.staged) > 0 {
		panic("dedupe: snapshot of a table with staged batches")
	}
	start := len(dst)
	dst = append(dst, snapshotMagic...)
	dst = append(dst, snapshotVersion)
	dst = binary.LittleEndian.AppendUint64(dst, t.appliedLSN)
	dst = binary.AppendUvarint(dst, uint64(t.listed))
	for p := t.list.next; p != &t.list; p = p.next {
		dst = p.appendTo(dst)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (p *producer) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(p.key.tenant)))
	dst = append(dst, p.key.tenant...)
	dst = append(dst, p.key.producer[:]...)
	dst = binary.AppendUvarint(dst, uint64(p.epoch))
	dst = binary.AppendUvarint(dst, uint64(len(p.entries)))
	var sequence, firstLSN uint64
	for i := range p.entries {
		e := &p.entries[(p.oldest+i)%len(p.entries)]
		dst = binary.AppendUvarint(dst, e.sequence-sequence)
		dst = binary.AppendUvarint(dst, e.firstLSN-firstLSN)
		dst = binary.AppendUvarint(dst, uint64(e.records))
		sequence, firstLSN = e.sequence, e.firstLSN
	}
	return dst
}

// DecodeSnapshot returns the table that data, made by AppendSnapshot, describes. Where it holds more than
// maxProducers producers, those that stored nothing for longest are left out. Errors wrap ErrCorruptSnapshot.
func DecodeSnapshot(data []byte, maxProducers int) (*Table, error) {
	if len(data) < headerBytes+checksumBytes || string(data[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: no header", ErrCorruptSnapshot)
	}
	if version := data[len(snapshotMagic)]; version != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", ErrCorruptSnapshot, version, snapshotVersion)
	}
	body := data[:len(data)-checksumBytes]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(data[len(body):]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, want %08x", ErrCorruptSnapshot, got, want)
	}
	t := New(maxProducers)
	t.appliedLSN = binary.LittleEndian.Uint64(body[len(snapshotMagic)+1:])
	d := decoder{rest: body[headerBytes:]}
	count := d.count(minProducerBytes)
	for range count {
		p := d.producer(t.appliedLSN)
		if d.failed {
			break
		}
		if t.producers[p.key] != nil {
			return nil, fmt.Errorf("%w: a producer is listed twice", ErrCorruptSnapshot)
		}
		t.producers[p.key] = p
		t.moveToEnd(p)
	}
	if d.failed || len(d.rest) > 0 {
		return nil, fmt.Errorf("%w: impossible content %d bytes before the checksum", ErrCorruptSnapshot, len(d.rest))
	}
	for t.listed > maxProducers {
		t.forget(t.list.next)
	}
	return t, nil
}

// decoder reads from the front of rest. After a failure all its results are meaningless.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number of things that take at least minBytes each.
func (d *decoder) count(minBytes int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/minBytes) {
		d.failed = true
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.failed = true
		n = 0
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) producer(appliedLSN uint64) *producer {
	p := &producer{}
	p.key.tenant = string(d.bytes(d.count(1)))
	copy(p.key.producer[:], d.bytes(len(p.key.producer)))
	epoch := d.uvarint()
	p.epoch = uint32(epoch)
	count := d.count(minBatchBytes)
	if uint64(p.epoch) != epoch || count == 0 || count > WindowBatches {
		d.failed = true
	}
	if d.failed {
		return nil
	}
	p.entries = make([]entry, 0, count)
	var e entry
	for range count {
		sequence, firstLSN, records := e.sequence+d.uvarint(), e.firstLSN+d.uvarint(), d.uvarint()
		after := firstLSN + records
		ordered := (len(p.entries) == 0 || sequence > e.sequence) && firstLSN >= e.firstLSN+uint64(e.records)
		if !ordered || firstLSN == 0 || records == 0 || uint64(uint32(records)) != records ||
			after < firstLSN || after-1 > appliedLSN {
			d.failed = true
			return nil
		}
		e = entry{sequence: sequence, firstLSN: firstLSN, records: uint32(records)}
		p.entries = append(p.entries, e)
	}
	p.last = e.sequence
	return p
}
