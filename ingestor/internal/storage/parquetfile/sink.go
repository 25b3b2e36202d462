package parquetfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// SinkName is the sink's name in the manifest.
const SinkName = "parquet"

// MaxThreads bounds Options.Threads.
const MaxThreads = 64

// Defaults of Options.
const (
	DefaultRowGroupRows   = 122_880
	DefaultSmallTableRows = 8192
)

// Options are what a Sink is made of.
type Options struct {
	FS vfs.FS
	// Dir is the directory that holds the files. It is made where it is missing.
	Dir      string
	Manifest *manifest.Manifest
	// Compression is zstd where empty.
	Compression Compression
	// RowGroupRows bounds a row group; 0 means DefaultRowGroupRows.
	RowGroupRows int
	// BloomFilter adds a Bloom filter of the event ids to every row group.
	BloomFilter bool
	// Threads, at least 1, is how many work on one file side by side; 0 means 1.
	Threads int
	// SmallTableRows: tables of one tenant with fewer rows share a file. 0 means DefaultSmallTableRows; negative: never.
	SmallTableRows int
	// DirectIO writes past the page cache. REQUIRES: vfs.DirectWorks on the file system of Dir.
	DirectIO bool
	// Niceness, 1 to 19, makes Flush run on threads of that nice value; 0: on the caller's, and on goroutines for further Threads.
	// A nice thread may hold up the garbage collector on a busy machine.
	Niceness int
	// DeleteAfter is how long files stay on the disk that the manifest does not list any more; 0 means DefaultDeleteAfter.
	DeleteAfter time.Duration
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Sink writes generations to Parquet files. Flush must be called from one goroutine at a time.
type Sink struct {
	opts   Options
	writer *writer
	worker *worker // nil without Niceness

	rows    batch.Rows
	metrics metrics
	dead    graveyard
}

// Open makes the directory, checks that every file of the manifest is there and removes all others.
func Open(opts Options) (*Sink, error) {
	if opts.Compression == "" {
		opts.Compression = Zstd
	}
	if opts.RowGroupRows == 0 {
		opts.RowGroupRows = DefaultRowGroupRows
	}
	if opts.SmallTableRows == 0 {
		opts.SmallTableRows = DefaultSmallTableRows
	}
	if opts.Threads == 0 {
		opts.Threads = 1
	}
	if opts.DeleteAfter == 0 {
		opts.DeleteAfter = DefaultDeleteAfter
	}
	if opts.RowGroupRows < 1 || opts.Niceness < 0 || opts.Niceness > 19 || opts.Threads < 1 || opts.Threads > MaxThreads {
		return nil, fmt.Errorf("parquetfile: row group of %d rows, niceness %d, %d threads", opts.RowGroupRows, opts.Niceness, opts.Threads)
	}
	s := &Sink{opts: opts, writer: &writer{
		fsys: opts.FS, root: opts.Dir, direct: opts.DirectIO, rowGroupRows: opts.RowGroupRows,
		output: newOutput(), durableDirs: make(map[string]struct{}),
	}}
	for range opts.Threads {
		encoder, err := newEncoder(opts.Compression, opts.BloomFilter)
		if err != nil {
			return nil, err
		}
		s.writer.lanes = append(s.writer.lanes, &lane{encoder: encoder, verifier: &verifier{}})
	}
	if err := s.prepareDir(); err != nil {
		return nil, err
	}
	var err error
	if s.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, err
	}
	if err = s.startWorkers(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// startWorkers starts the threads: one for Flush where there is a nice value, and one for each further lane.
func (s *Sink) startWorkers() (err error) {
	if s.opts.Niceness > 0 {
		if s.worker, err = startWorker(s.opts.Niceness); err != nil {
			return err
		}
	}
	for _, lane := range s.writer.lanes[1:] {
		if lane.worker, err = startWorker(s.opts.Niceness); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the threads, where there are any. It may be called again. REQUIRES: no Flush runs.
func (s *Sink) Close() {
	if s.worker != nil {
		s.worker.close()
		s.worker = nil
	}
	for _, lane := range s.writer.lanes {
		if lane.worker != nil {
			lane.worker.close()
			lane.worker = nil
		}
	}
}

// Name returns SinkName.
func (s *Sink) Name() string { return SinkName }

// Flushed returns the last LSN that the manifest says is stored here.
func (s *Sink) Flushed(context.Context) (uint64, error) {
	return s.opts.Manifest.Flushed(SinkName), nil
}

// fatalError is a failure after which what the disk holds is not known, or not what was written. Trying again would prove nothing.
type fatalError struct{ error }

func (fatalError) Fatal() bool     { return true }
func (e fatalError) Unwrap() error { return e.error }

// Flush writes the files of a generation and commits them together with the checkpoint g.Last. On nil all of it is durable.
//
// Where the checkpoint is not previous, nothing is changed. A full disk and the end of ctx leave nothing behind and may be tried
// again. Any other error has a method Fatal that returns true.
func (s *Sink) Flush(ctx context.Context, g *memtable.Generation, previous uint64) error {
	if flushed := s.opts.Manifest.Flushed(SinkName); flushed != previous {
		return fmt.Errorf("parquetfile: the checkpoint is LSN %d, not %d", flushed, previous)
	}
	if g.First != previous+1 {
		return fatalError{fmt.Errorf("parquetfile: generation %d-%d does not follow LSN %d", g.First, g.Last, previous)}
	}
	start := time.Now()
	err := s.run(func() error { return s.flush(ctx, g) })
	if err == nil {
		s.metrics.flushSeconds.Observe(time.Since(start).Seconds())
		return nil
	}
	err = fmt.Errorf("parquetfile: generation %d-%d: %w", g.First, g.Last, err)
	if ctx.Err() != nil || vfs.IsNoSpace(err) || errors.Is(err, manifest.ErrNoSpace) {
		return err
	}
	return fatalError{err}
}

func (s *Sink) run(work func() error) error {
	if s.worker == nil {
		return work()
	}
	return s.worker.do(work)
}

func (s *Sink) flush(ctx context.Context, g *memtable.Generation) error {
	defer s.letGo()
	for tables := g.Tables; len(tables) > 0; {
		n := 1
		for n < len(tables) && tables[n].Tenant == tables[0].Tenant {
			n++
		}
		if err := s.flushTenant(ctx, tables[:n]); err != nil {
			s.writer.discard()
			return err
		}
		tables = tables[n:]
	}
	files, err := s.writer.publish()
	if err != nil {
		s.writer.discard()
		return err
	}
	err = s.opts.Manifest.Commit(manifest.Edit{AddFiles: files, Flushed: map[string]uint64{SinkName: g.Last}})
	if err != nil {
		if errors.Is(err, manifest.ErrNoSpace) {
			s.writer.pending = files // nothing has changed: nobody will miss them
			s.writer.discard()
		}
		return err
	}
	s.metrics.count(files)
	return nil
}

// What a flush has needed beyond this is given back: 48 MiB of references, and attributes.
const (
	keepRecords        = 1 << 20
	keepAttributeBytes = 32 << 20
)

// letGo drops the references to the generation's memory, and memory that only a large generation needs.
func (s *Sink) letGo() {
	s.rows.Reset()
	s.rows.Trim(keepRecords, keepAttributeBytes)
	s.writer.lanes.letGo()
}

// flushTenant writes the tables of one tenant: large ones to files of their own, two small ones or more to files that they
// share.
func (s *Sink) flushTenant(ctx context.Context, tables []*memtable.Table) error {
	var small []*memtable.Table
	for _, table := range tables {
		if table.Records < s.opts.SmallTableRows {
			small = append(small, table)
			continue
		}
		if err := s.flushTable(ctx, table); err != nil {
			return err
		}
	}
	switch len(small) {
	case 0:
		return nil
	case 1:
		return s.flushTable(ctx, small[0])
	}
	return s.flushMixed(ctx, small)
}

func (s *Sink) flushTable(ctx context.Context, table *memtable.Table) error {
	s.rows.Reset()
	if err := s.decode(table); err != nil {
		return err
	}
	s.rows.SortByTime(0)
	hourOf := s.hours(s.rows.Refs[0].TimeUnixNano, s.rows.Refs[s.rows.Len()-1].TimeUnixNano)
	for refs := s.rows.Refs; len(refs) > 0; {
		n := sameHour(refs, hourOf)
		p := partition{tenant: table.Tenant, endpoint: table.Endpoint, hour: hourOf(refs[0].TimeUnixNano)}
		rows := fileRows{tenant: table.Tenant, rows: &s.rows, refs: refs[:n], endpoints: []endpointRun{{table.Endpoint, n}}}
		if err := s.writer.write(ctx, p, &rows); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// flushMixed writes tables of one tenant, sorted by endpoint, to one file an hour.
func (s *Sink) flushMixed(ctx context.Context, tables []*memtable.Table) error {
	s.rows.Reset()
	// tableOf[i] is the table that batch i of the rows belongs to.
	var tableOf []int
	least, greatest := int64(math.MaxInt64), int64(math.MinInt64)
	for i, table := range tables {
		begin := s.rows.Len()
		if err := s.decode(table); err != nil {
			return err
		}
		for len(tableOf) < len(s.rows.Raws) {
			tableOf = append(tableOf, i)
		}
		s.rows.SortByTime(begin)
		least = min(least, s.rows.Refs[begin].TimeUnixNano)
		greatest = max(greatest, s.rows.Refs[s.rows.Len()-1].TimeUnixNano)
	}
	hourOf := s.hours(least, greatest)
	// The rows are sorted by table and time now. A stable sort keeps that within each hour, and costs nothing where there is only one.
	slices.SortStableFunc(s.rows.Refs, func(a, b batch.Ref) int {
		return cmp.Compare(hourOf(a.TimeUnixNano), hourOf(b.TimeUnixNano))
	})
	for refs := s.rows.Refs; len(refs) > 0; {
		n := sameHour(refs, hourOf)
		rows := fileRows{tenant: tables[0].Tenant, rows: &s.rows, refs: refs[:n]}
		for i := range rows.refs {
			table := tableOf[rows.refs[i].Batch]
			if i == 0 || table != tableOf[rows.refs[i-1].Batch] {
				rows.endpoints = append(rows.endpoints, endpointRun{endpoint: tables[table].Endpoint})
			}
			rows.endpoints[len(rows.endpoints)-1].end = i + 1
		}
		p := partition{tenant: tables[0].Tenant, hour: hourOf(refs[0].TimeUnixNano)}
		if err := s.writer.write(ctx, p, &rows); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// decode adds a table's records to s.rows.
func (s *Sink) decode(table *memtable.Table) error {
	s.rows.Grow(table.Records)
	for i := range table.Batches {
		b := &table.Batches[i]
		before := s.rows.Len()
		if err := s.rows.AppendBatch(b.Raw, b.First); err != nil {
			return err
		}
		if got := s.rows.Len() - before; got != b.Records() {
			return fmt.Errorf("batch at LSN %d has %d records instead of %d", b.First, got, b.Records())
		}
	}
	return nil
}

// hours returns the function that assigns the decoded rows, whose timestamps lie from least to greatest, to files by their time: one
// for each hour, or one for all where they are spread over more than maxHours. Otherwise a client with odd timestamps could
// make a file of every record.
func (s *Sink) hours(least, greatest int64) func(timeUnixNano int64) int64 {
	if hourOf(greatest)-hourOf(least) < maxHours {
		return hourOf
	}
	hours := make(map[int64]struct{})
	last := int64(manyHours)
	for i := range s.rows.Refs {
		hour := hourOf(s.rows.Refs[i].TimeUnixNano)
		if hour == last {
			continue
		}
		last = hour
		if hours[hour] = struct{}{}; len(hours) > maxHours {
			return func(int64) int64 { return manyHours }
		}
	}
	return hourOf
}

// sameHour counts the rows at the front of refs that belong to the hour of the first one. The hours of refs ascend.
func sameHour(refs []batch.Ref, hourOf func(int64) int64) int {
	hour := hourOf(refs[0].TimeUnixNano)
	return sort.Search(len(refs), func(i int) bool { return hourOf(refs[i].TimeUnixNano) != hour })
}
