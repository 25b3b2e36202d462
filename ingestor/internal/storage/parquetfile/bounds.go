package parquetfile

import (
	"bytes"
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// maxBoundBytes is where bounds of texts are cut off. Only a cut that keeps them bounds is made.
const maxBoundBytes = 64

// idBounds finds the least and the greatest of event ids, compared by their bytes. Its zero value has seen none.
type idBounds struct {
	seen            bool
	minHigh, minLow uint64
	maxHigh, maxLow uint64
}

func (b *idBounds) add(id []byte) {
	high, low := binary.BigEndian.Uint64(id), binary.BigEndian.Uint64(id[8:16])
	if !b.seen {
		*b = idBounds{true, high, low, high, low}
		return
	}
	if high < b.minHigh || high == b.minHigh && low < b.minLow {
		b.minHigh, b.minLow = high, low
	}
	if high > b.maxHigh || high == b.maxHigh && low > b.maxLow {
		b.maxHigh, b.maxLow = high, low
	}
}

func (b *idBounds) least() []byte    { return idBytes(b.minHigh, b.minLow) }
func (b *idBounds) greatest() []byte { return idBytes(b.maxHigh, b.maxLow) }

func idBytes(high, low uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, high), low)
}

// intBounds returns the least and the greatest of values; there is at least one.
func intBounds(values []int64) (least, greatest int64) {
	least, greatest = math.MaxInt64, math.MinInt64
	for _, v := range values {
		least, greatest = min(least, v), max(greatest, v)
	}
	return least, greatest
}

func intBytes(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }

// lowerBound returns a copy of the text, or of its beginning, which is not greater. It ends with a whole character.
func lowerBound(text []byte) []byte {
	return bytes.Clone(text[:cut(text)])
}

// upperBound returns a text that is not less than the one given: a copy, or its beginning with one character replaced by a
// greater one, so that it stays UTF-8.
func upperBound(text []byte) []byte {
	end := cut(text)
	if end == len(text) {
		return bytes.Clone(text)
	}
	for end > 0 {
		last, size := utf8.DecodeLastRune(text[:end])
		end -= size
		if next, ok := successor(last, size); ok {
			return utf8.AppendRune(bytes.Clone(text[:end]), next)
		}
	}
	return bytes.Clone(text)
}

// cut returns how many bytes of the text are kept.
func cut(text []byte) int {
	if len(text) <= maxBoundBytes {
		return len(text)
	}
	end := maxBoundBytes
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return end
}

// successor returns the next greater character, also in the order of bytes. There is none for the last one and for bytes
// that are not UTF-8.
func successor(r rune, size int) (rune, bool) {
	switch {
	case r == utf8.RuneError && size <= 1, r == utf8.MaxRune:
		return 0, false
	case r == 0xd7ff: // surrogates are no characters
		return 0xe000, true
	}
	return r + 1, true
}
