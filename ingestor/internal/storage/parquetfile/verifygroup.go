package parquetfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
)

// chunkCheck compares one column chunk, read back, with the rows it was made of, page after page.
type chunkCheck struct {
	column int
	rows   *fileRows
	next   int // of rows: the first one that has not been compared
	// dictionary holds the entries of the chunk's dictionary; none without one.
	dictionary [][]byte
	// What bounds the pages must have, for the columns where that is checked.
	index    parquet.ColumnIndex
	pages    int
	least    parquet.Value
	greatest parquet.Value
}

var errOtherValue = errors.New("another value than the record has")

// verifyGroup compares the row group that was read into v.part with rows.
func (v *verifier) verifyGroup(group parquet.RowGroup, rows *fileRows) error {
	if n := group.NumRows(); n != int64(len(rows.refs)) {
		return fmt.Errorf("%d rows instead of %d in a row group", n, len(rows.refs))
	}
	chunks := group.ColumnChunks()
	if len(chunks) != columnCount {
		return fmt.Errorf("%d columns", len(chunks))
	}
	for column, c := range chunks {
		chunk, ok := c.(*parquet.FileColumnChunk)
		if !ok {
			return fmt.Errorf("column %s: a chunk that is not of a file", columnNames[column])
		}
		check := chunkCheck{column: column, rows: rows}
		if err := v.verifyChunk(&check, chunk); err != nil {
			return fmt.Errorf("column %s, row %d of a row group: %w", columnNames[column], check.next, err)
		}
	}
	return v.verifyFilter(chunks[columnEventID].(*parquet.FileColumnChunk), rows)
}

func (v *verifier) verifyChunk(check *chunkCheck, chunk *parquet.FileColumnChunk) (err error) {
	if check.bounded() {
		if check.index, err = chunk.ColumnIndex(); err != nil {
			return err
		}
	}
	pages := chunk.PagesFrom(&v.part)
	defer func() { err = errors.Join(err, pages.Close()) }()
	for {
		page, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		err = v.verifyPage(check, page)
		parquet.Release(page)
		if err != nil {
			return err
		}
		check.pages++
	}
	if check.next != len(check.rows.refs) {
		return fmt.Errorf("the column ends, %d rows are missing", len(check.rows.refs)-check.next)
	}
	return check.chunkBounds(chunk)
}

// bounded says whether the column's bounds are checked.
func (c *chunkCheck) bounded() bool {
	return c.column == columnEventID || c.column == columnTimestamp || c.column == columnLSN
}

func (v *verifier) verifyPage(check *chunkCheck, page parquet.Page) error {
	count := int(page.NumRows())
	if count > len(check.rows.refs)-check.next {
		return fmt.Errorf("a page of %d rows, %d are left", count, len(check.rows.refs)-check.next)
	}
	refs := check.rows.refs[check.next:][:count]
	dictionary := page.Dictionary()
	if dictionary != nil && check.dictionary == nil {
		check.dictionary = v.entries(dictionary)
	}
	var err error
	switch check.column {
	case columnTimestamp, columnLSN:
		err = check.numbers(page, refs)
	case columnVersion:
		err = check.versions(page, refs)
	case columnEventID:
		err = check.eventIDs(page, refs)
	case columnPayload:
		err = check.payloads(page, refs)
	case columnAttributes:
		err = check.attributes(page, refs)
	default:
		err = check.texts(page, refs)
	}
	return err
}

// entries returns the dictionary's values, which alias it.
func (v *verifier) entries(dictionary parquet.Dictionary) [][]byte {
	v.dictionary = v.dictionary[:0]
	for i := range dictionary.Len() {
		value := dictionary.Index(int32(i))
		if value.Kind() == parquet.Int64 {
			v.dictionary = append(v.dictionary, binary.LittleEndian.AppendUint64(nil, value.Uint64()))
			continue
		}
		v.dictionary = append(v.dictionary, value.ByteArray())
	}
	return v.dictionary
}

// numbers compares timestamps and positions.
func (c *chunkCheck) numbers(page parquet.Page, refs []batch.Ref) error {
	data := page.Data()
	values := data.Int64()
	if len(values) != len(refs) {
		return fmt.Errorf("%d values in a page of %d rows", len(values), len(refs))
	}
	for i, value := range values {
		want := refs[i].TimeUnixNano
		if c.column == columnLSN {
			want = int64(refs[i].LSN)
		}
		if value != want {
			c.next += i
			return errOtherValue
		}
	}
	c.next += len(refs)
	least, greatest := intBounds(values)
	return c.pageBounds(parquet.Int64Value(least), parquet.Int64Value(greatest))
}

func (c *chunkCheck) versions(page parquet.Page, refs []batch.Ref) error {
	if page.Dictionary() == nil {
		data := page.Data()
		values := data.Int64()
		if len(values) != len(refs) {
			return fmt.Errorf("%d values in a page of %d rows", len(values), len(refs))
		}
		for i, value := range values {
			if value != int64(refs[i].Version) {
				c.next += i
				return errOtherValue
			}
		}
		c.next += len(refs)
		return nil
	}
	entries, err := c.entriesOf(page, len(refs))
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if binary.LittleEndian.Uint64(c.dictionary[entry]) != uint64(refs[i].Version) {
			c.next += i
			return errOtherValue
		}
	}
	c.next += len(refs)
	return nil
}

// entriesOf returns the numbers of dictionary entries in a page, which are want and lie within the dictionary.
func (c *chunkCheck) entriesOf(page parquet.Page, want int) ([]int32, error) {
	data := page.Data()
	entries := data.Int32()
	if len(entries) != want {
		return nil, fmt.Errorf("%d values in a page instead of %d", len(entries), want)
	}
	for _, entry := range entries {
		if uint(entry) >= uint(len(c.dictionary)) {
			return nil, fmt.Errorf("entry %d of a dictionary of %d", entry, len(c.dictionary))
		}
	}
	return entries, nil
}

func (c *chunkCheck) eventIDs(page parquet.Page, refs []batch.Ref) error {
	data := page.Data()
	ids, width := data.FixedLenByteArray()
	if width != eventIDBytes || len(ids) != width*len(refs) {
		return fmt.Errorf("%d bytes of ids in a page of %d rows", len(ids), len(refs))
	}
	var bounds idBounds
	for i := range refs {
		id := ids[i*eventIDBytes:][:eventIDBytes]
		if string(id) != string(c.rows.eventID(&refs[i])) {
			c.next += i
			return errOtherValue
		}
		bounds.add(id)
	}
	c.next += len(refs)
	return c.pageBounds(parquet.FixedLenByteArrayValue(bounds.least()), parquet.FixedLenByteArrayValue(bounds.greatest()))
}

func (c *chunkCheck) payloads(page parquet.Page, refs []batch.Ref) error {
	data := page.Data()
	values, offsets := data.ByteArray()
	if len(offsets) != len(refs)+1 {
		return fmt.Errorf("%d values in a page of %d rows", len(offsets)-1, len(refs))
	}
	for i := range refs {
		if !bytes.Equal(values[offsets[i]:offsets[i+1]], c.rows.payload(&refs[i])) {
			c.next += i
			return errOtherValue
		}
	}
	c.next += len(refs)
	return nil
}

// texts compares content types, tenants and endpoints.
func (c *chunkCheck) texts(page parquet.Page, refs []batch.Ref) error {
	entries, err := c.entriesOf(page, len(refs))
	if err != nil {
		return err
	}
	begin := c.next
	for c.next < begin+len(refs) {
		text, end := c.textRun(begin + len(refs))
		// Neighbours mostly have one entry: it is compared once.
		seen := int32(-1)
		for _, entry := range entries[c.next-begin : end-begin] {
			if entry != seen && string(c.dictionary[entry]) != text {
				return errOtherValue
			}
			seen = entry
		}
		c.next = end
	}
	return nil
}

// textRun returns what text row c.next must have, and up to which row, below limit, that is certain.
func (c *chunkCheck) textRun(limit int) (text string, end int) {
	switch c.column {
	case columnTenantID:
		return c.rows.tenant, limit
	case columnEndpointID:
		run := 0
		for c.rows.endpoints[run].end <= c.next {
			run++
		}
		return c.rows.endpoints[run].endpoint, min(limit, c.rows.endpoints[run].end)
	}
	types, refs := c.rows.rows.ContentTypes, c.rows.refs
	text = types[refs[c.next].Batch]
	if c.rows.oneContentType() {
		return text, limit
	}
	end = c.next + 1
	for end < limit && refs[end].Batch == refs[c.next].Batch {
		end++
	}
	return text, end
}

// attributes compares attributes, which are null where a record has none.
func (c *chunkCheck) attributes(page parquet.Page, refs []batch.Ref) error {
	levels := page.DefinitionLevels()
	if len(levels) != len(refs) {
		return fmt.Errorf("%d definition levels in a page of %d rows", len(levels), len(refs))
	}
	present := 0
	for i, level := range levels {
		if (level == 1) != (refs[i].AttrLen > 0) {
			c.next += i
			return errOtherValue
		}
		present += int(level)
	}
	if page.Dictionary() == nil || present == 0 {
		return c.plainAttributes(page, refs, present)
	}
	entries, err := c.entriesOf(page, present)
	if err != nil {
		return err
	}
	var seenEntry int32 = -1
	var seen batch.Ref
	for i := range refs {
		ref := &refs[i]
		if ref.AttrLen == 0 {
			continue
		}
		entry := entries[0]
		entries = entries[1:]
		if entry == seenEntry && ref.AttrOff == seen.AttrOff && ref.AttrLen == seen.AttrLen {
			continue
		}
		if !bytes.Equal(c.dictionary[entry], c.rows.attributes(ref)) {
			c.next += i
			return errOtherValue
		}
		seenEntry, seen = entry, *ref
	}
	c.next += len(refs)
	return nil
}

func (c *chunkCheck) plainAttributes(page parquet.Page, refs []batch.Ref, present int) error {
	if present == 0 {
		c.next += len(refs)
		return nil
	}
	data := page.Data()
	values, offsets := data.ByteArray()
	if len(offsets) != present+1 {
		return fmt.Errorf("%d values in a page instead of %d", len(offsets)-1, present)
	}
	for i := range refs {
		if refs[i].AttrLen == 0 {
			continue
		}
		if !bytes.Equal(values[offsets[0]:offsets[1]], c.rows.attributes(&refs[i])) {
			c.next += i
			return errOtherValue
		}
		offsets = offsets[1:]
	}
	c.next += len(refs)
	return nil
}

// pageBounds compares the bounds of the page under way, as its values have them, with the column index.
func (c *chunkCheck) pageBounds(least, greatest parquet.Value) error {
	if c.pages >= c.index.NumPages() {
		return errors.New("the column index has fewer pages")
	}
	if !parquet.Equal(c.index.MinValue(c.pages), least) || !parquet.Equal(c.index.MaxValue(c.pages), greatest) {
		return errors.New("the column index has other bounds")
	}
	compare := c.compare
	if c.pages == 0 || compare(least, c.least) < 0 {
		c.least = least
	}
	if c.pages == 0 || compare(greatest, c.greatest) > 0 {
		c.greatest = greatest
	}
	return nil
}

func (c *chunkCheck) compare(a, b parquet.Value) int {
	if c.column == columnEventID {
		return bytes.Compare(a.ByteArray(), b.ByteArray())
	}
	switch {
	case a.Int64() < b.Int64():
		return -1
	case a.Int64() > b.Int64():
		return 1
	}
	return 0
}

// chunkBounds compares the bounds of the whole chunk.
func (c *chunkCheck) chunkBounds(chunk *parquet.FileColumnChunk) error {
	if !c.bounded() {
		return nil
	}
	least, greatest, ok := chunk.Bounds()
	if !ok || !parquet.Equal(least, c.least) || !parquet.Equal(greatest, c.greatest) || c.pages != c.index.NumPages() {
		return errors.New("the statistics have other bounds")
	}
	return nil
}

// verifyFilter looks up every event id in the Bloom filter, where there is one.
func (v *verifier) verifyFilter(chunk *parquet.FileColumnChunk, rows *fileRows) error {
	filter, err := chunk.BloomFilterFrom(&v.part)
	if errors.Is(err, parquet.ErrMissingBloomFilter) {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range rows.refs {
		found, err := filter.Check(parquet.FixedLenByteArrayValue(rows.eventID(&rows.refs[i])))
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("the Bloom filter denies the event id of row %d of a row group", i)
		}
	}
	return nil
}
