//go:build linux && amd64

package syscalls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ingestor-project/ingestor/crashtest/traffic"
	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Session is a run of the script, in a directory of its own.
type Session struct {
	Dir    string
	Binary string
	// Fault is what happens; nil for the session that finds the sites.
	Fault *Fault
	Rng   *rand.Rand
	// Unflushed leaves everything in the log until the drain: the first life then ends with all of its load there and nowhere else.
	Unflushed bool

	supervisor *Supervisor
	server     *serverproc.Server
	loads      int
	ledgers    []string
}

// Result is what a session showed.
type Result struct {
	// Hit is the call that the fault has happened to; empty where the session had fewer.
	Hit    string
	Counts map[Site]int
	Acked  uint64 // records, all of them there
}

// patience is how long nothing may come of a wait. It is far more than any machine should need.
const patience = 3 * time.Minute

// Exit codes of the server, as its documentation gives them.
const (
	exitOK       = 0
	exitError    = 1
	exitPoisoned = 4
	exitSink     = 5
)

// config makes the script short: a load fills a segment and more, and seals some generations.
func (s *Session) config() map[string]any {
	memtable := map[string]any{"generation_bytes": "512KiB", "generation_age": "100ms", "budget_bytes": "32MiB"}
	if s.Unflushed {
		memtable["generation_bytes"], memtable["generation_age"] = "5MiB", "1h"
	}
	return map[string]any{
		"wal":      map[string]any{"segment_bytes": "1MiB", "max_group_bytes": "512KiB", "spare_segments": 1},
		"ingest":   map[string]any{"max_batch_bytes": "256KiB", "max_record_bytes": "64KiB", "queue_bytes": "1MiB"},
		"memtable": memtable,
		"parquet":  map[string]any{"small_table_rows": 500},
		"drain":    map[string]any{"timeout": patience.String()},
		"log":      map[string]any{"format": "json"},
	}
}

// shapes of one load: a segment's worth in columns, and some rows that are answered when they are committed.
func (s *Session) shapes() []engine.Config {
	shapes := []engine.Config{
		{Method: engine.Stream, Layout: engine.Columns, Client: engine.Prepared, InFlight: 4, BatchRecords: 500,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED, Phases: []engine.Phase{{Name: "segments", Records: 500 * 20}}},
		{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, InFlight: 1, BatchRecords: 5,
			AckLevel: storagepb.AckLevel_ACK_LEVEL_COMMITTED, Phases: []engine.Phase{{Name: "commits", Records: 5 * 4}}},
	}
	if s.Unflushed {
		return shapes[:1]
	}
	return shapes
}

// Run plays the script and judges. An error is a broken promise, or says that there is no judgement.
func (s *Session) Run(ctx context.Context) (result *Result, err error) {
	dataDir := filepath.Join(s.Dir, "data")
	if s.supervisor, err = NewSupervisor(s.Dir, dataDir, s.Fault); err != nil {
		return nil, err
	}
	err = s.script(ctx, dataDir)
	if s.server != nil {
		err = errors.Join(err, s.server.Close())
	}
	if err = errors.Join(err, s.supervisor.Close()); err != nil {
		return nil, s.explain(err)
	}
	result = &Result{Hit: s.supervisor.Hit(), Counts: s.supervisor.Counts()}
	report, err := s.judge(ctx, dataDir)
	if err != nil {
		return nil, s.explain(err)
	}
	result.Acked = report.Acked
	return result, nil
}

func (s *Session) explain(err error) error {
	log, readErr := os.ReadFile(filepath.Join(s.Dir, "server", "server.log"))
	if readErr == nil {
		log = log[max(0, len(log)-4000):]
	}
	return fmt.Errorf("%w\nthe call: %s\nthe server's log:\n%s", err, s.supervisor.Hit(), log)
}

// script is two lives under supervision: one that ends in SIGKILL, one that recovers and drains. The fault ends either of them early.
func (s *Session) script(ctx context.Context, dataDir string) error {
	server, err := serverproc.Start(ctx, serverproc.Options{
		Binary: s.Binary, Dir: filepath.Join(s.Dir, "server"), DataDir: dataDir, Config: s.config(), Tenants: []string{"alpha"},
		Wrap: s.supervisor.Wrap(), StartTimeout: patience,
	})
	s.server = server
	if err := s.life(ctx, err, s.kill); err != nil {
		return fmt.Errorf("first life: %w", err)
	}
	if s.server == nil {
		return s.startUnsupervised(ctx, dataDir)
	}
	if err := s.life(ctx, s.server.Restart(ctx), s.drain); err != nil {
		return fmt.Errorf("second life: %w", err)
	}
	return s.lastLife(ctx)
}

// startUnsupervised is for a fault that has ended the first start of all.
func (s *Session) startUnsupervised(ctx context.Context, dataDir string) (err error) {
	s.server, err = serverproc.Start(ctx, serverproc.Options{
		Binary: s.Binary, Dir: filepath.Join(s.Dir, "server"), DataDir: dataDir, Config: s.config(), Tenants: []string{"alpha"},
		StartTimeout: patience,
	})
	if err != nil {
		return fmt.Errorf("start after the fault: %w", err)
	}
	return s.finish(ctx)
}

// lastLife has no supervision: whatever has failed, the disk is sound, and the start must succeed.
func (s *Session) lastLife(ctx context.Context) error {
	s.server.SetWrap(nil)
	if err := s.server.Restart(ctx); err != nil {
		return fmt.Errorf("start after the fault: %w", err)
	}
	return s.finish(ctx)
}

// finish writes once more and drains.
func (s *Session) finish(ctx context.Context) error {
	if err := s.load(ctx); err != nil {
		return fmt.Errorf("writes after the fault: %w", err)
	}
	return s.drain(ctx)
}

// life is what a start that returned startErr leads to: a load, and end. The fault may end it at any time.
func (s *Session) life(ctx context.Context, startErr error, end func(context.Context) error) error {
	var early *serverproc.StartError
	switch {
	case errors.As(startErr, &early) && early.Exited:
		return s.ended(early.Status, true)
	case startErr != nil:
		return startErr
	}
	err := s.load(ctx)
	if err == nil && s.mustPoison() {
		err = s.awaitEnd(ctx)
	}
	if err == nil && s.server.Running() {
		err = end(ctx)
	}
	if errors.Is(err, errEnded) || errors.Is(err, serverproc.ErrNotRunning) {
		status, waitErr := s.server.Wait(ctx)
		return errors.Join(waitErr, s.ended(status, false))
	}
	return err
}

// errEnded says that the server has ended by itself.
var errEnded = errors.New("the server has ended by itself")

// load sends a load and waits until all of it is answered or the server has ended.
func (s *Session) load(ctx context.Context) error {
	load, err := traffic.Start(ctx, traffic.Options{
		Dir: s.Dir, Name: fmt.Sprintf("load-%d", s.loads), Number: s.loads, Target: s.server.GRPCAddress(), Keys: s.server.Keys(),
		Shapes: s.shapes(), Rng: s.Rng,
	})
	if err != nil {
		return err
	}
	s.loads++
	s.ledgers = append(s.ledgers, load.Ledgers()...)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-load.Done():
	case <-s.server.Ended():
		err = errEnded
	case <-timer.C:
		err = fmt.Errorf("the load is not answered within %s", patience)
	}
	return errors.Join(err, load.Stop())
}

// mustPoison says whether the fault has hit what the server may not go on after: a write or a sync of the log, in this life.
func (s *Session) mustPoison() bool {
	f := s.Fault
	return f != nil && s.supervisor.Hit() != "" && f.Kind == EIO && f.File == segment &&
		(f.Call == "pwrite64" || f.Call == "fdatasync" || f.Call == "fsync") && s.loads == 1
}

func (s *Session) awaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := s.server.Wait(ctx); err != nil {
		return fmt.Errorf("%s, and the server goes on: %w", s.Fault, err)
	}
	return errEnded
}

// ended judges an end that the script did not ask for, or that came out other than by its order.
func (s *Session) ended(status serverproc.ExitStatus, starting bool) error {
	hit := s.supervisor.Hit()
	switch {
	case hit == "":
		return fmt.Errorf("the server ended with %v without a fault", status)
	case s.Fault.Kind == Kill:
		if status.Signal != syscall.SIGKILL {
			return fmt.Errorf("the server ended with %v instead of SIGKILL", status)
		}
	case s.mustPoison() && !starting && status.Code != exitPoisoned:
		return fmt.Errorf("%s: the server ended with %v instead of exit code %d", s.Fault, status, exitPoisoned)
	case status.Code != exitError && status.Code != exitPoisoned && status.Code != exitSink:
		return fmt.Errorf("%s: the server ended with %v", s.Fault, status)
	}
	return nil
}

// kill ends the first life.
func (s *Session) kill(context.Context) error {
	_, err := s.server.Kill()
	return err
}

// drain stops the server in order. An end with an error is judged as one that the fault has made.
func (s *Session) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := s.server.Terminate(ctx)
	if err != nil {
		return err
	}
	if status.Code != exitOK {
		return s.ended(status, false)
	}
	return nil
}

func (s *Session) judge(ctx context.Context, dataDir string) (*verify.Report, error) {
	log, err := os.ReadFile(s.server.LogPath())
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(log), "\ngoroutine ") {
		return nil, errors.New("the server has panicked")
	}
	report, err := verify.Parquet(ctx, dataDir, s.ledgers...)
	if err == nil && !report.OK() {
		err = fmt.Errorf("%s\n%+v", report, report.Examples)
	}
	return report, err
}
