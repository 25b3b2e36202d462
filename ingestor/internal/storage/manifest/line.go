package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// formatVersion is written into every snapshot line. A reader refuses versions that it does not know.
const formatVersion = 1

// A line is
//
//	{"crc32c":"xxxxxxxx","edit":{...}}\n
//
// where xxxxxxxx is the CRC32C of the bytes of the edit, from its "{" to its "}", as 8 lower-case hexadecimal digits. Lines
// are printable ASCII.
const (
	linePrefix  = `{"crc32c":"`
	lineMiddle  = `","edit":`
	lineSuffix  = "}\n"
	crcDigits   = 8
	editOffset  = len(linePrefix) + crcDigits + len(lineMiddle)
	lineMinimum = editOffset + len("{}") + len(lineSuffix)

	// A device writes sectors of this size, or multiples of it, wholly or not at all.
	sectorBytes = 512
	// Fewer bytes of garbage than these may look like text.
	minTellingBytes = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC32C of b as the manifest writes it: 8 lower-case hexadecimal digits.
func Checksum(b []byte) string { return FormatChecksum(crc32.Checksum(b, castagnoli)) }

// FormatChecksum writes a CRC32C as the manifest does.
func FormatChecksum(crc32c uint32) string { return fmt.Sprintf("%08x", crc32c) }

// entry is what a line holds: an edit and its place in the log.
type entry struct {
	// Seq numbers the entries of all lines ever written, without gaps.
	Seq uint64 `json:"seq"`
	// Snapshot marks the first line of a file, and only that: its edit leads from nothing to the whole state.
	Snapshot bool `json:"snapshot,omitempty"`
	// Format and OwnerEpoch are set in snapshot lines only.
	Format     int    `json:"format,omitempty"`
	OwnerEpoch uint64 `json:"owner_epoch,omitempty"`
	Edit
}

func (e *entry) line() ([]byte, error) {
	edit, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	edit = toASCII(edit)
	line := make([]byte, 0, editOffset+len(edit)+len(lineSuffix))
	line = append(line, linePrefix...)
	line = append(line, Checksum(edit)...)
	line = append(line, lineMiddle...)
	line = append(line, edit...)
	return append(line, lineSuffix...), nil
}

// toASCII escapes the characters of JSON that are not ASCII.
func toASCII(text []byte) []byte {
	if isText(text) {
		return text
	}
	ascii := make([]byte, 0, 2*len(text))
	for _, r := range string(text) {
		if r < utf8.RuneSelf {
			ascii = append(ascii, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			ascii = fmt.Appendf(ascii, "\\u%04x", unit)
		}
	}
	return ascii
}

// parseLine reads a line, line break included. An error says what does not fit.
func parseLine(line []byte) (*entry, error) {
	if len(line) < lineMinimum || !bytes.HasPrefix(line, []byte(linePrefix)) || !bytes.HasSuffix(line, []byte(lineSuffix)) ||
		!bytes.Equal(line[len(linePrefix)+crcDigits:editOffset], []byte(lineMiddle)) {
		return nil, errors.New("the line does not have the form of an edit")
	}
	edit := line[editOffset : len(line)-len(lineSuffix)]
	if stored := line[len(linePrefix):][:crcDigits]; string(stored) != Checksum(edit) {
		return nil, fmt.Errorf("checksum is %s, the line says %s", Checksum(edit), stored)
	}
	decoder := json.NewDecoder(bytes.NewReader(edit))
	decoder.DisallowUnknownFields()
	var e entry
	if err := decoder.Decode(&e); err != nil {
		return nil, fmt.Errorf("the edit is not understood: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the edit")
	}
	return &e, nil
}

// CorruptionError says why a manifest, or a snapshot file beside it, cannot be trusted.
type CorruptionError struct {
	File        string
	OffsetBytes int64
	Reason      string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("manifest: %s is corrupt at byte %d: %s", e.File, e.OffsetBytes, e.Reason)
}

// replay reads the contents of a manifest file. torn is the length of an invalid tail that no Commit has vouched for; it may
// be dropped.
func replay(file string, content []byte) (state State, lastSeq uint64, torn int, err error) {
	state = newState()
	for offset := 0; offset < len(content); {
		rest := content[offset:]
		refuse := func(reason string) (State, uint64, int, error) {
			return State{}, 0, 0, &CorruptionError{File: file, OffsetBytes: int64(offset), Reason: reason}
		}
		end := bytes.IndexByte(rest, '\n') + 1
		e, err := parseLine(rest[:end])
		if err != nil && offset > 0 && isTorn(rest, offset) && !followedByLine(rest) {
			return state, lastSeq, len(rest), nil
		}
		if err != nil {
			return refuse(err.Error())
		}
		switch first := offset == 0; {
		case first != e.Snapshot:
			return refuse("a snapshot must be the first line, and only that")
		case first && e.Format != formatVersion:
			return refuse(fmt.Sprintf("format %d is not known", e.Format))
		case !first && e.Seq != lastSeq+1:
			return refuse(fmt.Sprintf("edit %d follows edit %d", e.Seq, lastSeq))
		}
		if err := state.check(&e.Edit); err != nil {
			return refuse("the edit " + err.Error())
		}
		state.apply(&e.Edit)
		state.OwnerEpoch = max(state.OwnerEpoch, e.OwnerEpoch)
		lastSeq = e.Seq
		offset += end
	}
	if len(content) == 0 {
		return State{}, 0, 0, &CorruptionError{File: file, Reason: "the file is empty"}
	}
	return state, lastSeq, 0, nil
}

// isTorn tells whether an invalid tail, which begins at an offset of the file, shows the marks of a write that a crash has cut
// short: its end is missing, or sectors of it never reached the disk and read as zeros or garbage. A tail that is complete
// and consists of text was damaged later. A piece of a sector that is too short to tell counts as a mark.
func isTorn(tail []byte, offset int) bool {
	if tail[len(tail)-1] != '\n' {
		return true
	}
	for len(tail) > 0 {
		n := min(len(tail), sectorBytes-offset%sectorBytes)
		if n < minTellingBytes || !isText(tail[:n]) {
			return true
		}
		tail, offset = tail[n:], offset+n
	}
	return false
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' || c > '~') && c != '\n' {
			return false
		}
	}
	return true
}

// followedByLine tells whether a valid line comes later in an invalid tail. A line is written only after the one before it
// was synced: then the tail cannot be a write cut short.
func followedByLine(tail []byte) bool {
	for {
		start := bytes.Index(tail[1:], []byte(linePrefix)) + 1
		if start == 0 {
			return false
		}
		tail = tail[start:]
		if _, err := parseLine(tail[:bytes.IndexByte(tail, '\n')+1]); err == nil {
			return true
		}
	}
}
