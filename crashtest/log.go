package crashtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
)

// This is a reader of the write-ahead log by its published format (docs/wal-format.md). It shares no code with the server, so that a mistake
// there is not made here too. It reads logs that a crash has left: every frame that proves itself, up to the first that does not.

const (
	segmentMagic       = "INGWALSG"
	frameMagic         = "IWF1"
	segmentHeaderBytes = 4096
	groupAlignment     = 4096
	frameAlignment     = 64
	frameHeaderBytes   = 64
	lastInGroup        = 1 // flag
	kindRecords        = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// durableLog is what a log holds.
type durableLog struct {
	id      [16]byte
	batches []loggedBatch // in the order of their LSNs
	last    uint64        // LSN up to which the log reaches
}

// loggedBatch is a frame with records.
type loggedBatch struct {
	first   uint64 // LSN
	records uint32
	sum     [sha256.Size]byte // of the payload
}

func (b *loggedBatch) last() uint64 { return b.first + uint64(b.records) - 1 }

// segmentFile is a segment while it is read.
type segmentFile struct {
	name           string
	content        []byte
	id, epoch      uint64
	first          uint64
	previousID     uint64
	previousLast   uint64
	previousCRC32C uint32
}

// readDurableLog reads the log in a directory. One without segments is empty.
func readDurableLog(dir string) (*durableLog, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	log := &durableLog{}
	segments := make([]*segmentFile, len(names))
	for i, name := range names {
		if segments[i], err = openSegment(name, log); err != nil {
			return nil, fmt.Errorf("judge: %s: %w", filepath.Base(name), err)
		}
	}
	for i, s := range segments {
		if log.last >= s.first {
			return nil, fmt.Errorf("judge: %s begins with LSN %d, but %d was before it", s.name, s.first, log.last)
		}
		var successor *segmentFile
		if i+1 < len(segments) {
			successor = segments[i+1]
		}
		checksum := s.read(log, successor)
		if successor != nil && !s.endsWhere(successor, log.last, checksum) {
			return nil, fmt.Errorf("judge: %s says that segment %d ends at LSN %d with CRC32C %08x; segment %d ends at %d with %08x",
				successor.name, successor.previousID, successor.previousLast, successor.previousCRC32C, s.id, log.last, checksum)
		}
	}
	return log, nil
}

// endsWhere tells whether a successor names this place as the segment's end.
func (s *segmentFile) endsWhere(successor *segmentFile, last uint64, checksum uint32) bool {
	return successor.id == s.id+1 && successor.previousID == s.id && successor.previousLast == last && successor.previousCRC32C == checksum
}

// openSegment reads a segment's header.
func openSegment(path string, log *durableLog) (*segmentFile, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(content) < segmentHeaderBytes || string(content[:8]) != segmentMagic ||
		crc32.Checksum(content[:segmentHeaderBytes-4], castagnoli) != binary.LittleEndian.Uint32(content[segmentHeaderBytes-4:]) {
		return nil, fmt.Errorf("the header does not prove itself")
	}
	id := [16]byte(content[16:32])
	if log.id != [16]byte{} && id != log.id {
		return nil, fmt.Errorf("it belongs to log %x, not to %x", id, log.id)
	}
	log.id = id
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(content[at:]) }
	return &segmentFile{
		name: filepath.Base(path), content: content, id: u64(32), epoch: u64(40), first: u64(48), previousID: u64(56), previousLast: u64(64),
		previousCRC32C: binary.LittleEndian.Uint32(content[72:]),
	}, nil
}

// read adds the segment's batches to the log, up to the end that a successor names, and returns the checksum of its last frame.
func (s *segmentFile) read(log *durableLog, successor *segmentFile) (checksum uint32) {
	checksum = binary.LittleEndian.Uint32(s.content[segmentHeaderBytes-4:])
	log.last = s.first - 1
	group := segmentHeaderBytes
	for at := group; successor == nil || !s.endsWhere(successor, log.last, checksum); {
		size, ok := s.frameAt(at, group, checksum, log.last+1)
		if !ok {
			return checksum
		}
		frame := s.content[at : at+size]
		records := binary.LittleEndian.Uint32(frame[12:])
		payload := frame[frameHeaderBytes:][:binary.LittleEndian.Uint32(frame[8:])]
		if frame[5] == kindRecords {
			log.batches = append(log.batches, loggedBatch{first: log.last + 1, records: records, sum: sha256.Sum256(payload)})
		}
		log.last += uint64(records)
		checksum = binary.LittleEndian.Uint32(frame[60:])
		at += size
		if binary.LittleEndian.Uint16(frame[6:])&lastInGroup != 0 {
			at = (at + groupAlignment - 1) / groupAlignment * groupAlignment
			group = at
		}
	}
	return checksum
}

// frameAt returns the size of the frame that begins at an offset; false where none proves itself.
func (s *segmentFile) frameAt(at, group int, chain uint32, first uint64) (size int, ok bool) {
	if at+frameHeaderBytes > len(s.content) {
		return 0, false
	}
	header := s.content[at:][:frameHeaderBytes]
	payload := int64(binary.LittleEndian.Uint32(header[8:]))
	end := int64(at+frameHeaderBytes) + (payload+frameAlignment-1)/frameAlignment*frameAlignment
	if string(header[:4]) != frameMagic || end > int64(len(s.content)) ||
		binary.LittleEndian.Uint64(header[16:]) != s.id || binary.LittleEndian.Uint64(header[24:]) != s.epoch ||
		binary.LittleEndian.Uint64(header[32:]) != first || binary.LittleEndian.Uint64(header[48:]) != uint64(group) ||
		binary.LittleEndian.Uint32(header[56:]) != chain {
		return 0, false
	}
	crc := crc32.Checksum(header[:60], castagnoli)
	crc = crc32.Update(crc, castagnoli, s.content[at+frameHeaderBytes:end])
	return int(end) - at, crc == binary.LittleEndian.Uint32(header[60:])
}
