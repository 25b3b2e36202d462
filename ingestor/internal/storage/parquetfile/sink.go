package parquetfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/batch"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/memtable"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

// SinkName is the sink's name in the manifest.
const SinkName = "parquet"

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
	// SmallTableRows: tables of one tenant with fewer rows share a file. 0 means DefaultSmallTableRows; negative: never.
	SmallTableRows int
	// DirectIO writes past the page cache. REQUIRES: vfs.DirectWorks on the file system of Dir.
	DirectIO bool
	// Niceness, 1 to 19, makes Flush run on a thread of that nice value; 0: on the caller's. A nice thread may hold up the
	// garbage collector on a busy machine.
	Niceness   int
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Sink writes generations to Parquet files. Flush must be called from one goroutine at a time.
type Sink struct {
	opts   Options
	writer *writer
	worker *worker // nil without Niceness

	rows    batch.Rows
	parts   []part
	metrics metrics
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
	if opts.RowGroupRows < 1 || opts.Niceness < 0 || opts.Niceness > 19 {
		return nil, fmt.Errorf("parquetfile: row group of %d rows, niceness %d", opts.RowGroupRows, opts.Niceness)
	}
	codec, err := opts.Compression.codec()
	if err != nil {
		return nil, err
	}
	s := &Sink{opts: opts, writer: &writer{
		fsys: opts.FS, root: opts.Dir, direct: opts.DirectIO,
		plain:  newEncoder(codec, false, opts.RowGroupRows),
		mixed:  newEncoder(codec, true, opts.RowGroupRows),
		output: newOutput(), verifier: newVerifier(),
		durableDirs: make(map[string]struct{}),
	}}
	if err := s.prepareDir(); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(opts.Registerer); err != nil {
		return nil, err
	}
	if opts.Niceness > 0 {
		s.worker, err = startWorker(opts.Niceness)
	}
	return s, err
}

// Close ends the worker, where there is one. It may be called again. REQUIRES: no Flush runs.
func (s *Sink) Close() {
	if s.worker != nil {
		s.worker.close()
		s.worker = nil
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

// letGo drops the references to the generation's memory.
func (s *Sink) letGo() {
	s.rows.Reset()
	clear(s.parts[:cap(s.parts)])
	s.parts = s.parts[:0]
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
	s.rows.SortByTime()
	hourOf := s.hours()
	for rest := s.rows; rest.Len() > 0; {
		hour := hourOf(rest.Refs[0].TimeUnixNano)
		var head batch.Rows
		head, rest = splitHour(rest, hour, hourOf)
		p := partition{tenant: table.Tenant, endpoint: table.Endpoint, hour: hour}
		if err := s.writer.write(ctx, p, []part{{table.Endpoint, head}}); err != nil {
			return err
		}
	}
	return nil
}

// flushMixed writes tables of one tenant, sorted by endpoint, to one file an hour.
func (s *Sink) flushMixed(ctx context.Context, tables []*memtable.Table) error {
	s.rows.Reset()
	ends := make([]int, len(tables))
	for i, table := range tables {
		if err := s.decode(table); err != nil {
			return err
		}
		ends[i] = s.rows.Len()
	}
	// Views of the decoded rows, one for each table, that the loop below takes hour after hour from their front.
	rest := make([]part, len(tables))
	begin := 0
	for i, table := range tables {
		view := s.rows
		view.Refs = s.rows.Refs[begin:ends[i]]
		view.SortByTime()
		rest[i] = part{table.Endpoint, view}
		begin = ends[i]
	}
	hourOf := s.hours()
	for {
		hour, ok := earliestHour(rest, hourOf)
		if !ok {
			return nil
		}
		s.parts = s.parts[:0]
		for i := range rest {
			var head batch.Rows
			if head, rest[i].rows = splitHour(rest[i].rows, hour, hourOf); head.Len() > 0 {
				s.parts = append(s.parts, part{rest[i].endpoint, head})
			}
		}
		if err := s.writer.write(ctx, partition{tenant: tables[0].Tenant, hour: hour}, s.parts); err != nil {
			return err
		}
	}
}

func (s *Sink) decode(table *memtable.Table) error {
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

// hours returns the function that assigns the decoded rows to files by their time: one for each hour, or one for all where
// they are spread over more than maxHours. Otherwise a client with odd timestamps could make a file of every record.
func (s *Sink) hours() func(timeUnixNano int64) int64 {
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

func earliestHour(parts []part, hourOf func(int64) int64) (hour int64, ok bool) {
	for i := range parts {
		if parts[i].rows.Len() == 0 {
			continue
		}
		if first := hourOf(parts[i].rows.Refs[0].TimeUnixNano); !ok || first < hour {
			hour, ok = first, true
		}
	}
	return hour, ok
}

// splitHour cuts the rows of an hour off the front of rows, which are sorted by time and hold none earlier.
func splitHour(rows batch.Rows, hour int64, hourOf func(int64) int64) (head, rest batch.Rows) {
	n := 0
	for n < rows.Len() && hourOf(rows.Refs[n].TimeUnixNano) == hour {
		n++
	}
	head, rest = rows, rows
	head.Refs, rest.Refs = rows.Refs[:n], rows.Refs[n:]
	return head, rest
}
