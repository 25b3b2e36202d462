package verify

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"golang.org/x/sync/errgroup"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
)

// readers is how many goroutines read Parquet files.
const readers = 2

// Parquet judges the Parquet files of a data directory against ledgers. The server must have been drained, or everything acked
// must have been flushed; what is only in the log counts as missing. Faults are in the report; an error means that there
// is no judgement.
func Parquet(ctx context.Context, dataDir string, ledgers ...string) (*Report, error) {
	e, err := expect(ledger.Records, ledgers)
	if err != nil {
		return nil, err
	}
	state, err := readManifest(dataDir)
	if err != nil {
		return nil, err
	}
	listed := state.list()
	report := &Report{Source: "parquet"}
	if report.FilesUnlisted, err = unlisted(dataDir, listed); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	found := newExamples()
	checkers := make([]*checker, readers)
	work := make(chan listedFile)
	group, ctx := errgroup.WithContext(ctx)
	for i := range checkers {
		c := &checker{expectation: e, examples: found}
		checkers[i] = c
		group.Go(func() error {
			for f := range work {
				c.checkFile(dataDir, &f)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		for _, f := range listed {
			select {
			case work <- f:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, c := range checkers {
		report.add(&c.report)
	}
	e.conclude(report, found)
	report.Examples = found.list
	return report, nil
}

// checkFile judges one file and its rows.
func (c *checker) checkFile(dataDir string, f *listedFile) {
	c.report.Files++
	c.file = f.Path
	if err := c.readFile(filepath.Join(dataDir, parquetDirectory, filepath.FromSlash(f.Path)), f); err != nil {
		c.report.FilesMissing++
		c.examples.add(Example{Fault: "files_missing", File: f.Path, Detail: err.Error()})
	}
}

func (c *checker) readFile(path string, f *listedFile) (err error) {
	content, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	hash := crc32.New(castagnoli)
	size, err := io.Copy(hash, content)
	if err != nil {
		return err
	}
	if crc := fmt.Sprintf("%08x", hash.Sum32()); size != f.Bytes || crc != f.CRC32C {
		return fmt.Errorf("%d bytes with CRC32C %s; the manifest says %d and %s", size, crc, f.Bytes, f.CRC32C)
	}
	hour, err := hourOf(f.Path)
	if err != nil {
		return err
	}
	reader, err := file.NewParquetReader(content)
	if err != nil {
		return err
	}
	if reader.NumRows() != f.Rows {
		err = fmt.Errorf("%d rows; the manifest says %d", reader.NumRows(), f.Rows)
	}
	columns, schemaErr := columnsOf(reader)
	if schemaErr != nil {
		return errors.Join(err, schemaErr)
	}
	for g := range reader.NumRowGroups() {
		group := reader.RowGroup(g)
		if readErr := c.readRowGroup(group, columns, f, hour); readErr != nil {
			return errors.Join(err, fmt.Errorf("row group %d: %w", g, readErr))
		}
	}
	return err
}

var hourInPath = regexp.MustCompile(`/date=(\d{4}-\d\d-\d\d)/hour=(\d\d)/[^/]+$`)

// hourOf returns the hour that a path stands for.
func hourOf(path string) (time.Time, error) {
	match := hourInPath.FindStringSubmatch(path)
	if match == nil {
		return time.Time{}, errors.New("the path names no hour")
	}
	return time.Parse("2006-01-02 15", match[1]+" "+match[2])
}

// The columns in the order in which values holds them.
var columnNames = [...]string{
	"event_id", "timestamp", "version", "payload", "content_type", "attributes", "tenant_id", "endpoint_id", "lsn",
}

// columnsOf finds the columns of a file by name.
func columnsOf(reader *file.Reader) (indexes [len(columnNames)]int, err error) {
	schema := reader.MetaData().Schema
	for i, name := range columnNames {
		indexes[i] = schema.ColumnIndexByName(name)
		if indexes[i] < 0 {
			return indexes, fmt.Errorf("there is no column %s", name)
		}
	}
	if n := schema.NumColumns(); n != len(columnNames) {
		return indexes, fmt.Errorf("%d columns instead of %d", n, len(columnNames))
	}
	return indexes, nil
}

// chunkRows is how many rows are read at a time.
const chunkRows = 2048

// values holds the columns of one chunk of rows.
type values struct {
	eventIDs     [chunkRows]parquet.FixedLenByteArray
	timestamps   [chunkRows]int64
	versions     [chunkRows]int64
	payloads     [chunkRows]parquet.ByteArray
	contentTypes [chunkRows]parquet.ByteArray
	attributes   [chunkRows]parquet.ByteArray // those that are not null
	present      [chunkRows]int16
	tenants      [chunkRows]parquet.ByteArray
	endpoints    [chunkRows]parquet.ByteArray
	lsns         [chunkRows]int64
	levels       [chunkRows]int16 // of the other columns, should they be declared optional
}

func (c *checker) readRowGroup(group *file.RowGroupReader, indexes [len(columnNames)]int, f *listedFile, hour time.Time) error {
	var chunks [len(columnNames)]file.ColumnChunkReader
	for i, index := range indexes {
		chunk, err := group.Column(index)
		if err != nil {
			return err
		}
		chunks[i] = chunk
	}
	v := new(values)
	start, end := hour.UnixNano(), hour.Add(time.Hour).UnixNano()
	for left := group.NumRows(); left > 0; {
		n := min(left, chunkRows)
		if err := v.read(&chunks, n); err != nil {
			return err
		}
		attributes := 0
		for i := range n {
			r := row{
				eventID: v.eventIDs[i], timestampUnixNano: v.timestamps[i], version: v.versions[i], payload: v.payloads[i],
				contentType: v.contentTypes[i], tenant: v.tenants[i], endpoint: v.endpoints[i], lsn: v.lsns[i],
			}
			if v.present[i] > 0 {
				r.attributes = v.attributes[attributes]
				attributes++
			}
			c.check(&r)
			if r.timestampUnixNano < start || r.timestampUnixNano >= end || string(r.tenant) != f.Tenant ||
				!f.Mixed && string(r.endpoint) != f.Endpoint || uint64(r.lsn) < f.FirstLSN || uint64(r.lsn) > f.LastLSN {
				c.misplaced(&r)
			}
		}
		left -= n
	}
	return nil
}

// misplaced counts a row that lies in a file which is not for it.
func (c *checker) misplaced(r *row) {
	c.report.Corrupt++
	c.examples.add(Example{
		Fault: "corrupt", Tenant: string(r.tenant), Endpoint: string(r.endpoint), LSN: uint64(r.lsn), File: c.file,
		Detail: fmt.Sprintf("the row's tenant, endpoint, hour or LSN is not that of its file; timestamp %d", r.timestampUnixNano),
	})
}

// read fills the next n rows of all columns.
func (v *values) read(chunks *[len(columnNames)]file.ColumnChunkReader, n int64) error {
	for i, chunk := range chunks {
		levels := v.levels[:n]
		var total int64
		var present int
		var err error
		switch column := chunk.(type) {
		case *file.FixedLenByteArrayColumnChunkReader:
			total, present, err = column.ReadBatch(n, v.eventIDs[:n], levels, nil)
		case *file.Int64ColumnChunkReader:
			into := map[int][]int64{1: v.timestamps[:n], 2: v.versions[:n], 8: v.lsns[:n]}[i]
			total, present, err = column.ReadBatch(n, into, levels, nil)
		case *file.ByteArrayColumnChunkReader:
			into := map[int][]parquet.ByteArray{
				3: v.payloads[:n], 4: v.contentTypes[:n], 5: v.attributes[:n], 6: v.tenants[:n], 7: v.endpoints[:n],
			}[i]
			if columnNames[i] == "attributes" {
				levels = v.present[:n]
			}
			total, present, err = column.ReadBatch(n, into, levels, nil)
		default:
			return fmt.Errorf("column %s has an unknown type", columnNames[i])
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", columnNames[i], err)
		}
		if total != n || present < int(n) && columnNames[i] != "attributes" {
			return fmt.Errorf("column %s: %d rows with %d values, %d expected", columnNames[i], total, present, n)
		}
	}
	return nil
}
