package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
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
	// StartupKills counts the kills that hit a server that was not ready yet.
	StartupKills int

	server  *serverproc.Server
	load    *load // nil while nothing is sent
	ledgers []string
	rounds  int
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
	c.server, err = serverproc.Start(ctx, c.Server)
	return err
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

// load is a round's traffic. It differs in shape from generator to generator, so that many paths of the server are under way when it
// dies.
type load struct {
	cancel context.CancelFunc
	books  []book // one a generator
	done   sync.WaitGroup
	mu     sync.Mutex
	acked  uint64 // batches
	err    error
}

func (c *Campaign) shapes() []engine.Config {
	return []engine.Config{
		{Method: engine.Stream, Layout: engine.Columns, Client: engine.Prepared, Connections: 1, Streams: 1, InFlight: 8, BatchRecords: 300,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED},
		{Method: engine.Stream, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 1, InFlight: 3, BatchRecords: 40,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED},
		{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 2, InFlight: 1, BatchRecords: 1,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED},
		{Method: engine.Unary, Layout: engine.Columns, Client: engine.Live, Connections: 1, Streams: 1, InFlight: 1, BatchRecords: 20,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_COMMITTED},
	}
}

// producersPerLoad keeps the event ids of the loads of all rounds apart.
const producersPerLoad = 16

// startLoad starts the generators of one round. They reconnect and send again, with the same sequences, for as long as it takes.
func (c *Campaign) startLoad(ctx context.Context) error {
	c.rounds++
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	c.load = l
	for i, config := range c.shapes() {
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
		config.FirstProducer = ((c.rounds-1)*len(c.shapes()) + i) * producersPerLoad
		config.RetryFor = 5 * time.Minute
		config.Phases = []engine.Phase{{Name: "until stopped", Duration: time.Hour}}
		path := filepath.Join(c.Dir, fmt.Sprintf("round-%03d-load-%d.ledger", c.rounds, i))
		writer, err := ledger.Create(path, config.LedgerHeader())
		if err != nil {
			return errors.Join(err, c.stopLoad())
		}
		c.ledgers = append(c.ledgers, path)
		l.books = append(l.books, book{path, writer})
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
				l.acked += result.Measured.Acked.Batches
				for _, text := range result.LaneErrors {
					l.err = errors.Join(l.err, errors.New(text))
				}
			}
		}()
	}
	return nil
}

// stopLoad ends the generators; what is unanswered stays unknown in the ledgers.
func (c *Campaign) stopLoad() error {
	l := c.load
	c.load = nil
	l.cancel()
	l.done.Wait()
	return l.err
}

// roundAcks is how many batches are acked before a round's first crash, and once more after its last.
const roundAcks = 50

// Round lets crash end the server's process crashes times under load and restarts it each time. At the end the server is drained and
// everything since the campaign's start is judged. It returns the number of batches acked in the round.
func (c *Campaign) Round(ctx context.Context, crashes int, crash func() error) (ackedBatches uint64, err error) {
	if err := c.startLoad(ctx); err != nil {
		return 0, err
	}
	l := c.load
	err = c.AwaitAcks(roundAcks)
	for i := 0; i < crashes && err == nil; i++ {
		if err = c.crashAndRestart(ctx, crash); err != nil {
			err = fmt.Errorf("crash %d of the round: %w", i+1, err)
		}
	}
	if err == nil {
		err = c.AwaitAcks(roundAcks)
	}
	if err := errors.Join(err, c.stopLoad()); err != nil {
		return 0, err
	}
	return l.acked, c.DrainAndJudge(ctx)
}

// LoadUntil sends until reached says that it is enough, and stops. What is unanswered at the end stays unknown. The server must live.
func (c *Campaign) LoadUntil(ctx context.Context, reached func() (bool, error)) error {
	if err := c.startLoad(ctx); err != nil {
		return err
	}
	return errors.Join(c.Await(reached), c.stopLoad())
}

// Load is LoadUntil for a number of acked batches.
func (c *Campaign) Load(ctx context.Context, ackedBatches uint64) error {
	if err := c.startLoad(ctx); err != nil {
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

// crashAndRestart ends the process and starts it again. Every fourth time it is killed once more before it is ready, while
// it repairs, replays or flushes what the first crash has left.
func (c *Campaign) crashAndRestart(ctx context.Context, crash func() error) error {
	if err := crash(); err != nil {
		return err
	}
	if c.Rng.IntN(4) == 0 {
		early, cancel := context.WithTimeout(ctx, time.Duration(c.Rng.Int64N(int64(30*time.Millisecond))))
		err := c.server.Restart(early)
		cancel()
		switch {
		case err == nil: // ready before the kill
			return nil
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		c.StartupKills++
	}
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
	report, err := c.Report(ctx)
	if err == nil && !report.OK() {
		err = fmt.Errorf("%s\n%+v", report.String(), report.Examples)
	}
	if err != nil || c.DSN == "" {
		return err
	}
	report, err = verify.Postgres(ctx, c.DSN, c.ledgers...)
	if err == nil && !report.OK() {
		err = fmt.Errorf("%s\n%+v", report.String(), report.Examples)
	}
	return err
}
