package blockdev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ingestor-project/ingestor/crashtest/traffic"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// Trial is one life of a file system: it is made and mounted, the real server works on it under load, and captures are taken meanwhile. Each
// capture is judged afterwards, in as many states as wanted.
type Trial struct {
	Host *Host
	FS   FileSystem
	// Dir is a directory for ledgers and for what the servers need beside their data. It is not on the device.
	Dir string
	// Server is how to run the server; Dir, DataDir, Config and Tenants are filled in.
	Server serverproc.Options
	// Wrap is put before the command line of the server under load, not of those that recover.
	Wrap  []string
	Rules Rules
	Rng   *rand.Rand

	mu      sync.Mutex
	traffic *traffic.Traffic
	dirs    int
}

// Moment is a capture and what the clients knew of it.
type Moment struct {
	Capture
	// Name says when it was taken, Depth how many crashes came before it.
	Name  string
	Depth int
	// before and after are the ledgers' extents right before and right after the capture.
	before, after traffic.Mark
	// ledgers are those that they make, valid where counted is set; for the recovery of a state, those of the state. There may be none.
	ledgers []string
	counted bool
}

// tenants send.
var tenants = []string{"alpha", "beta"}

// config makes segments, generations and checkpoints small, so that files come and go all the time.
func config() map[string]any {
	return map[string]any{
		"wal":      map[string]any{"segment_bytes": "1MiB", "max_group_bytes": "256KiB", "spare_segments": 2},
		"ingest":   map[string]any{"max_batch_bytes": "128KiB", "max_record_bytes": "32KiB", "queue_bytes": "512KiB"},
		"memtable": map[string]any{"generation_bytes": "2MiB", "generation_age": "250ms", "budget_bytes": "32MiB"},
		"parquet":  map[string]any{"small_table_rows": 300},
		"drain":    map[string]any{"timeout": patience.String()},
		"log":      map[string]any{"format": "json"},
	}
}

// patience is how long nothing may come of a wait. It is far more than any machine should need.
const patience = 3 * time.Minute

func (t *Trial) serverOptions(dir, dataDir string) serverproc.Options {
	o := t.Server
	o.Dir, o.DataDir, o.Tenants, o.StartTimeout = dir, dataDir, tenants, patience
	o.Config = config()
	return o
}

// dataDir is where a server keeps its data on a mounted file system. It does not exist at first: its name is at stake as well.
func dataDir(mountPoint string) string { return filepath.Join(mountPoint, "data") }

// Record runs the server under load on a new file system and returns moments at which the power might have gone. The first are taken while
// the server starts for the first time.
func (t *Trial) Record(ctx context.Context, moments int) (taken []*Moment, err error) {
	im, err := t.FS.make(filepath.Join(t.Dir, "image"))
	if err != nil {
		return nil, err
	}
	disk := newDisk(im, t.Rules)
	m, err := t.Host.attach(disk, t.FS)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.detach()) }()
	if err := m.mount(); err != nil {
		return nil, err
	}
	atStart := t.arm(disk, 150)
	options := t.serverOptions(filepath.Join(t.Dir, "server"), dataDir(m.Dir))
	options.Wrap = t.Wrap
	server, err := serverproc.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	select {
	case moment := <-atStart:
		taken = append(taken, moment.named("during the first start"))
	default: // it goes on into the load
	}
	if err := t.startTraffic(ctx, server); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.traffic.Stop()) }()
	if len(taken) == 0 {
		moment, err := await(ctx, server, atStart)
		if err != nil {
			return nil, err
		}
		taken = append(taken, moment)
	}
	for len(taken) < moments {
		// Far apart, so that generations are flushed and segments dropped between them.
		moment, err := await(ctx, server, t.arm(disk, 500))
		if err != nil {
			return nil, err
		}
		taken = append(taken, moment)
	}
	return taken, nil
}

func (t *Trial) startTraffic(ctx context.Context, server *serverproc.Server) error {
	load, err := traffic.Start(ctx, traffic.Options{
		Dir: t.Dir, Name: "load", Target: server.GRPCAddress(), Keys: server.Keys(), Shapes: traffic.Mixed(), Rng: t.Rng,
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.traffic = load
	return nil
}

// taken is a moment or why there is none.
type taken struct {
	*Moment
	err error
}

func (m taken) named(name string) *Moment {
	if m.Moment != nil {
		m.Name = name
	}
	return m.Moment
}

func await(ctx context.Context, server *serverproc.Server, moment <-chan taken) (*Moment, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case m := <-moment:
		return m.Moment, m.err
	case <-server.Ended():
		status, err := server.Wait(ctx)
		return nil, errors.Join(err, fmt.Errorf("the server ended by itself: %v\n%s", status, server.LogTail()))
	case <-timer.C:
		return nil, fmt.Errorf("the device had too few requests within %s\n%s", patience, server.LogTail())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// arm lets a moment be taken at one of the next requests. Most of the time it is as a flush comes, when the most is at stake, and often one
// with many writes before it.
func (t *Trial) arm(disk *Disk, within int) <-chan taken {
	moments := make(chan taken, 1)
	at := When{Op: Flush, N: 1 + t.Rng.IntN(within)/2, Pending: t.Rng.IntN(12)}
	name := "as a flush came"
	if t.Rng.IntN(4) == 0 {
		at.AnyOp, name = true, "as a request came"
	}
	disk.On(at, func() {
		m, err := t.take(disk)
		if err == nil {
			m.Name = name
		}
		moments <- taken{m, err}
	})
	return moments
}

// take notes what the clients know, captures the device, and notes what they have sent. What had been acked before the capture must be in
// every state of it; what comes into being after it cannot be.
func (t *Trial) take(disk *Disk) (*Moment, error) {
	before, err := t.mark()
	if err != nil {
		return nil, err
	}
	m := &Moment{Capture: disk.Capture(), before: before}
	m.after, err = t.mark()
	return m, err
}

func (t *Trial) mark() (traffic.Mark, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.traffic == nil {
		return nil, nil
	}
	return t.traffic.Mark()
}

// ledgersAt returns the ledgers of a moment. Its states share them, and so do the recoveries of those.
func (t *Trial) ledgersAt(m *Moment) (paths []string, err error) {
	if m.counted {
		return m.ledgers, nil
	}
	dir, err := t.newDir("ledgers")
	if err != nil {
		return nil, err
	}
	m.ledgers, err = traffic.CopyAsOf(dir, m.before, m.after)
	m.counted = err == nil
	return m.ledgers, err
}

// newDir makes a directory.
func (t *Trial) newDir(name string) (string, error) {
	t.dirs++
	dir := filepath.Join(t.Dir, fmt.Sprintf("%s-%d", name, t.dirs))
	return dir, os.Mkdir(dir, 0o755)
}
