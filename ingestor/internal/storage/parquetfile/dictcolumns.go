package parquetfile

import (
	"context"
	"encoding/binary"
	"slices"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/format"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

var (
	dictionaryNumbers rle.DictionaryEncoding
	oneBitLevels      = rle.Encoding{BitWidth: 1}
)

// encodeConstant writes a text that all rows have: a dictionary with one entry, and a page that says how often it comes.
func (e *encoder) encodeConstant(c *chunk, text []byte, rows int) error {
	e.dictionary.reset()
	if _, ok := e.dictionary.number(text); !ok {
		return errPageTooLarge
	}
	return e.addTexts(c, rows)
}

// addTexts writes a required text column of rows rows from the dictionary and, where that has more than one entry, e.entries.
func (e *encoder) addTexts(c *chunk, rows int) error {
	d := &e.dictionary
	if err := e.addDictionary(c, d.values, len(d.ends)); err != nil {
		return err
	}
	if len(d.ends) == 1 {
		// Entry numbers of no bits: one run.
		e.values = binary.AppendUvarint(append(e.values[:0], 0), uint64(rows)<<1)
		text := d.value(0)
		return e.addPage(c, &page{
			encoding: format.RLEDictionary, rows: rows, values: e.values, min: lowerBound(text), max: upperBound(text),
		})
	}
	for entries := range slices.Chunk(e.entries, pageRows) {
		var err error
		if e.values, err = dictionaryNumbers.EncodeInt32(e.values, entries); err != nil {
			return err
		}
		least, greatest := d.bounds(entries)
		if err := e.addPage(c, &page{
			encoding: format.RLEDictionary, rows: len(entries), values: e.values, min: lowerBound(least), max: upperBound(greatest),
		}); err != nil {
			return err
		}
	}
	return nil
}

// bounds returns the least and the greatest of the values with the given numbers; there is at least one.
func (d *dictionary) bounds(numbers []int32) (least, greatest []byte) {
	last := numbers[0]
	least, greatest = d.value(last), d.value(last)
	for _, n := range numbers {
		if n == last {
			continue
		}
		last = n
		value := d.value(n)
		if string(value) < string(least) {
			least = value
		}
		if string(value) > string(greatest) {
			greatest = value
		}
	}
	return least, greatest
}

// encodeContentTypes writes the rows' content types, which are the same for all rows of a batch.
func (e *encoder) encodeContentTypes(c *chunk, rows *fileRows) error {
	of := rows.refs[0].Batch
	text := rows.rows.ContentTypes[of]
	if rows.oneContentType() {
		return e.encodeConstant(c, bytesOf(text), len(rows.refs))
	}
	e.dictionary.reset()
	e.entries = e.entries[:0]
	entry, ok := e.dictionary.number(bytesOf(text))
	for i := range rows.refs {
		if b := rows.refs[i].Batch; b != of {
			of = b
			// Strings of one batch after another are mostly the same one.
			if next := rows.rows.ContentTypes[b]; next != text {
				text = next
				entry, ok = e.dictionary.number(bytesOf(text))
			}
		}
		if !ok {
			return errPageTooLarge
		}
		e.entries = append(e.entries, entry)
	}
	return e.addTexts(c, len(rows.refs))
}

// encodeEndpoints writes the rows' endpoints.
func (e *encoder) encodeEndpoints(c *chunk, rows *fileRows) error {
	if len(rows.endpoints) == 1 {
		return e.encodeConstant(c, bytesOf(rows.endpoints[0].endpoint), len(rows.refs))
	}
	e.dictionary.reset()
	e.entries = e.entries[:0]
	for _, run := range rows.endpoints {
		entry, ok := e.dictionary.number(bytesOf(run.endpoint))
		if !ok {
			return errPageTooLarge
		}
		for len(e.entries) < run.end {
			e.entries = append(e.entries, entry)
		}
	}
	return e.addTexts(c, len(rows.refs))
}

// encodeVersions writes the versions as numbers of dictionary entries, or as differences where there are many.
func (e *encoder) encodeVersions(c *chunk, rows *fileRows) error {
	e.dictionary.reset()
	e.entries = e.entries[:0]
	var plain [8]byte
	version, entry := rows.refs[0].Version, int32(-1)
	for i := range rows.refs {
		if v := rows.refs[i].Version; v != version || entry < 0 {
			version = v
			binary.LittleEndian.PutUint64(plain[:], uint64(v))
			if entry, _ = e.dictionary.number(plain[:]); entry >= maxVersions {
				return e.encodeNumbers(c, rows, func(ref *batch.Ref) int64 { return int64(ref.Version) })
			}
		}
		e.entries = append(e.entries, entry)
	}
	return e.addVersions(c)
}

// maxVersions bounds the dictionary of versions; with more entries it would not save anything.
const maxVersions = 1 << 14

func (e *encoder) addVersions(c *chunk) error {
	d := &e.dictionary
	plain := e.values[:0]
	for n := range d.ends {
		plain = append(plain, d.value(int32(n))...)
	}
	e.values = plain
	if err := e.addDictionary(c, plain, len(d.ends)); err != nil {
		return err
	}
	for entries := range slices.Chunk(e.entries, pageRows) {
		var err error
		if e.values, err = dictionaryNumbers.EncodeInt32(e.values, entries); err != nil {
			return err
		}
		e.numbers = e.numbers[:0]
		for _, entry := range entries {
			e.numbers = append(e.numbers, int64(binary.LittleEndian.Uint64(d.value(entry))))
		}
		least, greatest := intBounds(e.numbers)
		if err := e.addPage(c, &page{
			encoding: format.RLEDictionary, rows: len(entries), values: e.values, min: intBytes(least), max: intBytes(greatest),
		}); err != nil {
			return err
		}
	}
	return nil
}

// knownSlots is how many attributes are found by their place in batch.Rows.Attrs, without looking at them.
const knownSlots = 1 << 10

type knownAttributes struct {
	place uint64 // 1 more than the offset; 0 in a free slot
	entry int32
}

// encodeAttributes writes the rows' attributes, null where there are none: as numbers of dictionary entries, or as they are where they
// differ too much.
func (e *encoder) encodeAttributes(ctx context.Context, c *chunk, rows *fileRows) error {
	e.dictionary.reset()
	clear(e.known[:])
	e.entries, e.levels = e.entries[:0], e.levels[:0]
	for i := range rows.refs {
		ref := &rows.refs[i]
		if ref.AttrLen == 0 {
			e.levels = append(e.levels, 0)
			continue
		}
		slot := &e.known[(ref.AttrOff^ref.AttrOff>>10)%knownSlots]
		if slot.place != ref.AttrOff+1 {
			entry, ok := e.dictionary.number(rows.attributes(ref))
			if !ok {
				return e.addAttributes(ctx, c, rows)
			}
			*slot = knownAttributes{ref.AttrOff + 1, entry}
		}
		e.levels = append(e.levels, 1)
		e.entries = append(e.entries, slot.entry)
	}
	return e.addOptional(c)
}

// addOptional writes an optional column from the dictionary, e.entries and e.levels.
func (e *encoder) addOptional(c *chunk) error {
	d := &e.dictionary
	encoding := format.Plain
	if len(d.ends) > 0 {
		encoding = format.RLEDictionary
		if err := e.addDictionary(c, d.values, len(d.ends)); err != nil {
			return err
		}
	}
	entries := e.entries
	for levels := range slices.Chunk(e.levels, pageRows) {
		present, err := e.packLevels(levels)
		if err != nil {
			return err
		}
		e.values = e.values[:0]
		if present > 0 {
			if e.values, err = dictionaryNumbers.EncodeInt32(e.values, entries[:present]); err != nil {
				return err
			}
			entries = entries[present:]
		}
		if err := e.addPage(c, &page{
			encoding: encoding, rows: len(levels), nulls: len(levels) - present, levels: e.packed, values: e.values,
		}); err != nil {
			return err
		}
	}
	return nil
}

// packLevels encodes definition levels to e.packed and counts those that are 1.
func (e *encoder) packLevels(levels []byte) (present int, err error) {
	for _, level := range levels {
		present += int(level)
	}
	e.packed, err = oneBitLevels.EncodeLevels(e.packed, levels)
	return present, err
}

// addAttributes writes attributes without a dictionary: all lengths of a page, then all bytes.
func (e *encoder) addAttributes(ctx context.Context, c *chunk, rows *fileRows) error {
	for refs := rows.refs; len(refs) > 0; {
		e.lengths, e.levels = e.lengths[:0], e.levels[:0]
		size := 0
		for i := range refs[:min(len(refs), pageRows)] {
			if refs[i].AttrLen == 0 {
				e.levels = append(e.levels, 0)
				continue
			}
			if size += int(refs[i].AttrLen); size > pageBytes && len(e.lengths) > 0 {
				break
			}
			e.levels = append(e.levels, 1)
			e.lengths = append(e.lengths, int32(refs[i].AttrLen))
		}
		if err := e.beginStrings(); err != nil {
			return err
		}
		n := len(e.levels)
		for i := range refs[:n] {
			e.values = append(e.values, rows.attributes(&refs[i])...)
		}
		present, err := e.packLevels(e.levels)
		if err != nil {
			return err
		}
		if err := e.addPage(c, &page{
			encoding: format.DeltaLengthByteArray, rows: n, nulls: n - present, levels: e.packed, values: e.values,
		}); err != nil {
			return err
		}
		if err := yield(ctx); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}
