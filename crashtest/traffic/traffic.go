package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Options say where to send and what.
type Options struct {
	// Dir takes the ledgers, Name distinguishes them from those of other loads there.
	Dir, Name string
	// Target is the server's address, Keys the API key of each tenant.
	Target string
	Keys   map[string]string
	// Shapes are the generators; Target, tenants, endpoints, seeds and numbers are filled in.
	Shapes []engine.Config
	// Number is this load's among those that are judged together: it keeps their event ids apart.
	Number int
	Rng    *rand.Rand
}

// producersPerLoad is how many producer numbers each load takes at most.
const producersPerLoad = 32

// Traffic is a load under way, or what it has left.
type Traffic struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	books   []book

	mu  sync.Mutex
	err error
}

// book is a ledger that is still being written.
type book struct {
	path   string
	writer *ledger.Writer
}

// Mixed are generators of all kinds of calls and layouts: records come as rows and as columns, in streams and in unary calls, one at a time
// and in hundreds, acked when they are synced or when they are committed. They send about 12,000 records a second, until they are stopped.
func Mixed() []engine.Config {
	shapes := []engine.Config{
		{Method: engine.Stream, Layout: engine.Columns, Client: engine.Prepared, InFlight: 6, BatchRecords: 200},
		{Method: engine.Stream, Layout: engine.Rows, Client: engine.Live, InFlight: 3, BatchRecords: 30},
		{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, InFlight: 1, BatchRecords: 1},
		{Method: engine.Unary, Layout: engine.Columns, Client: engine.Live, InFlight: 1, BatchRecords: 20},
	}
	for i, recordsPerSecond := range []float64{8_000, 3_000, 300, 400} {
		shapes[i].AckLevel = storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
		shapes[i].Phases = []engine.Phase{{Name: "until stopped", Duration: time.Hour, RecordsPerSecond: recordsPerSecond, Arrivals: engine.Poisson}}
	}
	shapes[3].AckLevel = storagepb.AckLevel_ACK_LEVEL_COMMITTED
	return shapes
}

// Short are two generators that send this many batches each, as fast as they are acked, and end.
func Short(batches int) []engine.Config {
	return []engine.Config{
		{Method: engine.Stream, Layout: engine.Columns, Client: engine.Prepared, InFlight: 4, BatchRecords: 60,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED,
			Phases:   []engine.Phase{{Name: "short", Records: uint64(60 * batches)}}},
		{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, InFlight: 1, BatchRecords: 5,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED,
			Phases:   []engine.Phase{{Name: "short", Records: uint64(5 * batches)}}},
	}
}

// Start starts the generators. They reconnect, and send again what was not answered, for as long as it takes; ctx or Stop ends them.
func Start(ctx context.Context, o Options) (*Traffic, error) {
	ctx, cancel := context.WithCancel(ctx)
	t := &Traffic{cancel: cancel}
	producer := o.Number * producersPerLoad
	for i, config := range o.Shapes {
		o.complete(&config)
		config.FirstProducer = producer
		producer += config.Producers()
		path := filepath.Join(o.Dir, fmt.Sprintf("%s-%d.ledger", o.Name, i))
		writer, err := ledger.Create(path, config.LedgerHeader())
		if err != nil {
			return nil, errors.Join(err, t.Stop())
		}
		config.Ledger = writer
		t.books = append(t.books, book{path, writer})
		t.running.Go(func() { t.run(ctx, config) })
	}
	if producer > (o.Number+1)*producersPerLoad {
		return nil, errors.Join(fmt.Errorf("traffic: more than %d producers", producersPerLoad), t.Stop())
	}
	return t, nil
}

func (o *Options) complete(config *engine.Config) {
	config.Target = o.Target
	config.Connections, config.Streams = 1, 1
	for _, tenant := range slices.Sorted(maps.Keys(o.Keys)) {
		config.Tenants = append(config.Tenants, engine.Tenant{ID: tenant, APIKey: o.Keys[tenant]})
	}
	config.Endpoints = []string{"orders", "clicks/raw", "..", "mesures é"}
	config.Skew = 0.5
	config.Spec = record.Spec{Seed: o.Rng.Uint64()}
	config.Seed = o.Rng.Uint64()
	config.Epoch = 1
	for i := range config.RunID {
		config.RunID[i] = byte(o.Rng.Uint32())
	}
	config.RetryFor = 5 * time.Minute
}

func (t *Traffic) run(ctx context.Context, config engine.Config) {
	result, err := engine.Run(ctx, config)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = errors.Join(t.err, err)
	if result != nil {
		for _, text := range result.LaneErrors {
			t.err = errors.Join(t.err, errors.New(text))
		}
	}
}

// Wait returns when all generators have sent what they were asked to and got their answers. The ledgers stay open.
func (t *Traffic) Wait() error {
	t.running.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Done is closed when all generators have ended. Each call starts a goroutine that lives until then.
func (t *Traffic) Done() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.running.Wait()
	}()
	return done
}

// Stop ends the generators and closes the ledgers. What is unanswered stays unknown. It must be called once.
func (t *Traffic) Stop() error {
	t.cancel()
	err := t.Wait()
	for _, b := range t.books {
		err = errors.Join(err, b.writer.Close())
	}
	return err
}

// Ledgers are the paths of the ledgers.
func (t *Traffic) Ledgers() []string {
	var paths []string
	for _, b := range t.books {
		paths = append(paths, b.path)
	}
	return paths
}

// Mark is how far each ledger had come at a moment: bytes by path. A ledger that is not in it had not begun.
type Mark map[string]int64

// Mark is the present Mark.
func (t *Traffic) Mark() (Mark, error) {
	mark := Mark{}
	for _, b := range t.books {
		if err := b.writer.Flush(); err != nil {
			return nil, err
		}
		info, err := os.Stat(b.path)
		if err != nil {
			return nil, fmt.Errorf("traffic: %w", err)
		}
		mark[b.path] = info.Size()
	}
	return mark, nil
}

// CopyAsOf makes copies in dir of the ledgers as of a crash between two marks, and returns their paths.
func CopyAsOf(dir string, before, after Mark) ([]string, error) {
	var paths []string
	for path, sent := range after {
		dst := filepath.Join(dir, "as-of-crash-"+filepath.Base(path))
		if err := ledger.CopyAsOf(dst, path, ledger.Extent{AnsweredBytes: before[path], SentBytes: sent}); err != nil {
			return nil, err
		}
		paths = append(paths, dst)
	}
	return paths, nil
}
