package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Campaign is one data directory and the loads that are sent to it, over all its crashes.
type Campaign struct {
	// Dir holds ledgers and what the server process needs beside its data.
	Dir string
	// Server is how to run the server; Dir, Tenants and StartTimeout are filled in.
	Server serverproc.Options
	// DSN is that of a database that is a sink as well; empty: none.
	DSN string
	Rng *rand.Rand
	// Flood makes the largest of the loads larger than what short lives can flush.
	Flood bool
	// AgainBound is how long after its start a server must take durable writes again, whatever a crash has left. Default: 30 s.
	AgainBound time.Duration

	// StartupKills counts the kills that hit a server that was not ready yet, Judged the states that were judged before anything recovered
	// from them, Acked the batches.
	StartupKills, Judged int
	Acked                uint64
	// SlowestAgain is the longest time from the start of a process after a crash to the first batch that it acked as durable.
	SlowestAgain time.Duration

	server    *serverproc.Server
	load      *load // nil while nothing is sent
	loads     int
	startedAt time.Time // of the present process
	ledgers   []string  // of records
	metrics   []string  // ledgers of metrics
	round     []string  // the ledgers of records that the present round has begun
}

// tenants send; each load uses them all.
var tenants = []string{"alpha", "beta"}

// smallServer makes everything that happens at a size happen often: segments end and generations are sealed many times in a second. A
// generation is larger than a segment, so that the log mostly has segments that are needed and not the newest.
func smallServer() map[string]any {
	return map[string]any{
		"wal":      map[string]any{"segment_bytes": "1MiB", "max_group_bytes": "512KiB", "spare_segments": 2},
		"ingest":   map[string]any{"max_batch_bytes": "256KiB", "max_record_bytes": "64KiB", "queue_bytes": "1MiB"},
		"memtable": map[string]any{"generation_bytes": "4MiB", "generation_age": "500ms", "budget_bytes": "32MiB"},
		"parquet":  map[string]any{"small_table_rows": 500},
		"metrics":  map[string]any{"batch_size": 200, "flush_interval": "200ms"},
		// The judge wants everything flushed; what a drain has no time for stays in the log.
		"drain": map[string]any{"timeout": progressTimeout.String()},
		"log":   map[string]any{"format": "json"},
	}
}

// Start starts the server for the first time.
func (c *Campaign) Start(ctx context.Context) error {
	c.Server.Dir = filepath.Join(c.Dir, "server")
	c.Server.Tenants = tenants
	c.Server.StartTimeout = progressTimeout
	if c.Server.Config == nil {
		c.Server.Config = smallServer()
	}
	var err error
	c.startedAt = time.Now()
	c.server, err = serverproc.Start(ctx, c.Server)
	return err
}

// Refusals counts the batches that were refused in the whole campaign, by name of the error. REQUIRES: no load runs.
func (c *Campaign) Refusals() (map[string]uint64, error) {
	refusals := make(map[string]uint64)
	for _, path := range slices.Concat(c.ledgers, c.metrics) {
		book, err := ledger.Open(path)
		if err != nil {
			return nil, err
		}
		for _, p := range book.Producers {
			for _, b := range p.Batches {
				if b.State == ledger.Absent {
					refusals[storagepb.ErrorCode(b.Code).String()]++
				}
			}
		}
	}
	return refusals, nil
}

// Close kills what still runs, and ends the load that a failed test has left.
func (c *Campaign) Close() error {
	var err error
	if c.server != nil {
		err = c.server.Close()
	}
	if c.load != nil {
		err = errors.Join(err, c.stopLoad())
	}
	return err
}

// load is traffic. It differs in shape from generator to generator, so that many paths of the server are under way when it dies.
type load struct {
	cancel context.CancelFunc
	books  []book // one a generator
	done   sync.WaitGroup
	mu     sync.Mutex
	err    error
}

// shape is what one generator sends.
type shape struct {
	engine.Config
	// rate is in records a second. What is late after an outage is sent at once. 0: as fast as answers come.
	rate float64
}

const (
	bufferedLevel  = storagepb.AckLevel_ACK_LEVEL_BUFFERED
	syncedLevel    = storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
	committedLevel = storagepb.AckLevel_ACK_LEVEL_COMMITTED
)

// durableShapes are the loads of which nothing that is acked may be lost. They have rates that let a server on a busy machine flush, in
// lives of less than a second, what it takes; what is late after an outage is sent in a burst.
func (c *Campaign) durableShapes() []shape {
	rate := 8000.0
	switch {
	case c.Flood:
		rate = 60_000
	case c.Rng.IntN(4) == 0:
		rate = 20_000
	}
	return []shape{
		{engine.Config{Method: engine.Stream, Layout: engine.Columns, Client: engine.Prepared, Connections: 1, Streams: 1, InFlight: 8, BatchRecords: 80,
			AckLevel: syncedLevel}, rate},
		{engine.Config{Method: engine.Stream, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 1, InFlight: 3, BatchRecords: 20,
			AckLevel: syncedLevel}, 1500},
		{engine.Config{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 2, InFlight: 1, BatchRecords: 1,
			AckLevel: syncedLevel}, 200},
		{engine.Config{Method: engine.Unary, Layout: engine.Columns, Client: engine.Live, Connections: 1, Streams: 1, InFlight: 1, BatchRecords: 20,
			AckLevel: committedLevel}, 0},
	}
}

// volatileShapes are the loads of which a crash may lose what is acked, but may double nothing and leave nothing in part.
func (c *Campaign) volatileShapes() []shape {
	shapes := []shape{
		{engine.Config{Method: engine.Stream, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 1, InFlight: 16, BatchRecords: 25,
			AckLevel: bufferedLevel}, 1500},
	}
	if c.DSN != "" {
		shapes = append(shapes, shape{engine.Config{Method: engine.Metrics, Connections: 1, Streams: 2, InFlight: 1, BatchRecords: 30,
			AckLevel: bufferedLevel}, 1500})
	}
	return shapes
}

// producersPerLoad keeps the event ids of all generators apart.
const producersPerLoad = 16

// startLoad starts generators. They reconnect and send again, with the same sequences, for as long as it takes.
func (c *Campaign) startLoad(ctx context.Context, shapes []shape) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	c.load = l
	for i := range shapes {
		config := c.completed(shapes[i])
		path := filepath.Join(c.Dir, fmt.Sprintf("load-%04d.ledger", c.loads))
		c.loads++
		writer, err := ledger.Create(path, config.LedgerHeader())
		if err != nil {
			return errors.Join(err, c.stopLoad())
		}
		if config.Method == engine.Metrics {
			c.metrics = append(c.metrics, path)
		} else {
			c.ledgers = append(c.ledgers, path)
			c.round = append(c.round, path)
		}
		l.books = append(l.books, book{
			path: path, writer: writer, durable: config.AckLevel != bufferedLevel, committed: config.AckLevel == committedLevel,
			metrics: config.Method == engine.Metrics,
		})
		config.Ledger = writer
		l.done.Add(1)
		go func() {
			defer l.done.Done()
			result, err := engine.Run(ctx, config)
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.err = errors.Join(l.err, err, writer.Close())
			if result != nil {
				for _, text := range result.LaneErrors {
					l.err = errors.Join(l.err, errors.New(text))
				}
			}
		}()
	}
	return nil
}

// completed is a shape with all that the campaign decides.
func (c *Campaign) completed(s shape) engine.Config {
	config := s.Config
	config.Target = c.server.GRPCAddress()
	for _, tenant := range tenants {
		config.Tenants = append(config.Tenants, engine.Tenant{ID: tenant, APIKey: c.server.Key(tenant)})
	}
	config.Endpoints = []string{"orders", "clicks/raw", "..", "mesures é"}
	config.Skew = 0.5
	config.Spec = record.Spec{Seed: c.Rng.Uint64()}
	config.Seed = c.Rng.Uint64()
	config.Epoch = 1
	for j := range config.RunID {
		config.RunID[j] = byte(c.Rng.Uint32())
	}
	config.FirstProducer = c.loads * producersPerLoad
	config.RetryFor = 5 * time.Minute
	config.Phases = []engine.Phase{{Name: "until stopped", Duration: time.Hour, RecordsPerSecond: s.rate}}
	return config
}

// stopLoad ends the generators; what is unanswered stays unknown in the ledgers.
func (c *Campaign) stopLoad() error {
	l := c.load
	c.load = nil
	l.cancel()
	l.done.Wait()
	for _, b := range l.books {
		c.Acked += b.writer.AckedBatches()
	}
	return l.err
}

// roundAcks is how many batches are acked before a round's first crash.
const roundAcks = 50

// calmAcks is how many batches of each generator are acked after a round's last crash, and lost at none of the ack levels.
const calmAcks = 5

// calmRate is the rate of the largest load then, in records a second.
const calmRate = 2000

// Round lets crash end the server's process crashes times under load, judges each time what is left, and restarts it. After the last crash two
// recoveries are compared; then batches of all kinds are sent, the server is drained, and everything since the campaign's start is judged.
// It returns the number of batches acked in the round.
func (c *Campaign) Round(ctx context.Context, crashes int, crash func() error) (ackedBatches uint64, err error) {
	before := c.Acked
	c.round = nil
	if err := c.startLoad(ctx, append(c.durableShapes(), c.volatileShapes()...)); err != nil {
		return 0, err
	}
	err = c.AwaitAcks(roundAcks)
	for i := 0; i < crashes && err == nil; i++ {
		if err = c.crashed(ctx, crash); err == nil && i+1 < crashes {
			err = c.restartOrDieEarly(ctx)
		}
		if err != nil {
			err = fmt.Errorf("crash %d of the round: %w", i+1, err)
		}
	}
	if err := errors.Join(err, c.stopLoad()); err != nil {
		return 0, err
	}
	if err := c.judgeRecoveries(ctx); err != nil {
		return 0, err
	}
	if err := c.restart(ctx); err != nil {
		return 0, err
	}
	if err := c.calm(ctx); err != nil {
		return 0, fmt.Errorf("after the crashes: %w", err)
	}
	return c.Acked - before, c.DrainAndJudge(ctx)
}

// calm sends batches of all kinds to a server that is not ended by force any more.
func (c *Campaign) calm(ctx context.Context) error {
	shapes := append(c.durableShapes(), c.volatileShapes()...)
	// The sinks must catch up with what the crashes have left.
	shapes[0].rate = calmRate
	if err := c.startLoad(ctx, shapes); err != nil {
		return err
	}
	l := c.load
	err := c.Await(func() (bool, error) {
		for _, b := range l.books {
			if b.writer.AckedBatches() < calmAcks {
				return false, nil
			}
		}
		return true, nil
	})
	return errors.Join(err, c.stopLoad())
}

// LoadUntil sends batches that may not be lost until reached says that it is enough, and stops. What is unanswered at the end stays unknown. The server must live.
func (c *Campaign) LoadUntil(ctx context.Context, reached func() (bool, error)) error {
	if err := c.startLoad(ctx, c.durableShapes()); err != nil {
		return err
	}
	return errors.Join(c.Await(reached), c.stopLoad())
}

// LoadSynced is LoadUntil without the batches that wait for the sinks.
func (c *Campaign) LoadSynced(ctx context.Context, reached func() (bool, error)) error {
	shapes := slices.DeleteFunc(c.durableShapes(), func(s shape) bool { return s.AckLevel == committedLevel })
	if err := c.startLoad(ctx, shapes); err != nil {
		return err
	}
	return errors.Join(c.Await(reached), c.stopLoad())
}

// Load is LoadUntil for a number of acked batches.
func (c *Campaign) Load(ctx context.Context, ackedBatches uint64) error {
	if err := c.startLoad(ctx, c.durableShapes()); err != nil {
		return err
	}
	return errors.Join(c.AwaitAcks(ackedBatches), c.stopLoad())
}

// Report compares what is in the Parquet files with the ledgers.
func (c *Campaign) Report(ctx context.Context) (*verify.Report, error) {
	return c.ReportOn(ctx, c.server.DataDir())
}

// ReportOn is Report on a copy of the data directory.
func (c *Campaign) ReportOn(ctx context.Context, dataDir string) (*verify.Report, error) {
	return verify.Parquet(ctx, dataDir, c.ledgers...)
}

// crashed ends the process and judges what is left.
func (c *Campaign) crashed(ctx context.Context, crash func() error) error {
	if err := crash(); err != nil {
		return err
	}
	for _, b := range c.load.books {
		if err := b.writer.Crashed(); err != nil {
			return err
		}
	}
	_, err := c.JudgeRemains(ctx)
	return err
}

// restartOrDieEarly starts the server again. Every fourth time it is killed once more before it is ready, while it repairs, replays or
// flushes what the first crash has left.
func (c *Campaign) restartOrDieEarly(ctx context.Context) error {
	if c.Rng.IntN(4) == 0 {
		early, cancel := context.WithTimeout(ctx, time.Duration(c.Rng.Int64N(int64(30*time.Millisecond))))
		err := c.restart(early)
		cancel()
		switch {
		case err == nil: // ready before the kill
			return nil
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		c.StartupKills++
	}
	return c.restart(ctx)
}

// restart starts a server that has ended again, and notes when.
func (c *Campaign) restart(ctx context.Context) error {
	c.startedAt = time.Now()
	return c.server.Restart(ctx)
}

// DrainAndJudge stops the server in order, compares everything that is stored with the ledgers, and leaves it stopped.
func (c *Campaign) DrainAndJudge(ctx context.Context) error {
	if err := c.Drain(ctx); err != nil {
		return err
	}
	return c.Judge(ctx)
}

// Drain stops the server in order.
func (c *Campaign) Drain(ctx context.Context) error {
	status, err := c.server.Terminate(ctx)
	if err != nil {
		return fmt.Errorf("drain: %w\n%s", err, c.server.LogTail())
	}
	if status.Code != 0 {
		return fmt.Errorf("drain ended with %v\n%s", status, c.server.LogTail())
	}
	return nil
}

// Judge compares what is stored with the ledgers, each sink by itself. REQUIRES: the server is drained.
func (c *Campaign) Judge(ctx context.Context) error {
	err := judged(c.Report(ctx))
	if err != nil || c.DSN == "" {
		return err
	}
	err = judged(verify.Postgres(ctx, c.DSN, c.ledgers...))
	if err != nil || len(c.metrics) == 0 {
		return err
	}
	return judged(verify.Metrics(ctx, c.DSN, c.metrics...))
}

// judged makes an error of a report with faults.
func judged(report *verify.Report, err error) error {
	if err == nil && !report.OK() {
		err = fmt.Errorf("%s\n%+v", report.String(), report.Examples)
	}
	return err
}
