package ingestor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	ingestionapi "github.com/ingestor-project/ingestor/ingestor/internal/api/ingestion"
	metricsapi "github.com/ingestor-project/ingestor/ingestor/internal/api/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/datadir"
	"github.com/ingestor-project/ingestor/ingestor/internal/events"
	"github.com/ingestor-project/ingestor/ingestor/internal/events/kafka"
	"github.com/ingestor-project/ingestor/ingestor/internal/processor"
	"github.com/ingestor-project/ingestor/ingestor/internal/retention"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/parquetfile"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// Why a server ends, for errors.Is.
var (
	// ErrRefused says that what is stored is damaged or does not fit together: the server will not guess.
	ErrRefused = errors.New("refused to go on: the stored data needs to be looked at")
	// ErrSink says that a sink cannot go on: another server owns its checkpoint, or it does not fit the log. The log has everything.
	ErrSink = errors.New("a sink cannot go on")
	// ErrPoisoned says that a write or sync has failed while serving. What was acknowledged is safe; the rest is answered as unknown.
	ErrPoisoned = errors.New("stopped: a write or sync has failed")
)

// Server is a running server. New or NewNullSink makes it, Run ends it. A null sink has no state: only what it shares with New is set.
type Server struct {
	config   Config
	version  string
	began    time.Time
	log      *slog.Logger
	registry *prometheus.Registry
	stages   *telemetry.Stages
	ready    atomic.Bool

	// fatal takes the first error after which the server must stop.
	fatal     chan error
	fatalOnce sync.Once

	unlock    func() error
	admin     *telemetry.Admin
	auth      *auth.Authenticator
	bus       *events.Bus
	memory    *slab.Pool
	manifest  *manifest.Manifest
	wal       *wal.WAL
	rebuild   *processor.Rebuild  // while starting
	parquet   *parquetfile.Sink   // nil where it is off
	database  *timescale.Database // nil where none is configured
	processor *processor.Processor
	ingestion *ingestion.Service
	metrics   *metrics.Service // nil without a database
	kafka     *kafka.Publisher // nil without brokers
	retention *retention.Runner

	ingestionAPI *ingestionapi.API
	metricsAPI   *metricsapi.API
	grpc         *grpcServer
}

// minReplayBytes bounds, but for larger batches, what each sink reads back from the log at a time, when it is behind.
const minReplayBytes = 64 << 20

// New opens the data directory, recovers, and starts to serve. When it returns, the server is ready. ctx ends a recovery that takes
// too long; it does not end the server.
func New(ctx context.Context, config Config, version string, log *slog.Logger) (*Server, error) {
	s, err := prepare(config, version, log)
	if err != nil {
		return nil, err
	}
	err = s.start(ctx, s.openDataDir, s.startAdmin, s.openAuth, s.openState, s.startMetrics, s.startKafka, s.startRetention, s.startServing)
	if err != nil {
		return nil, err
	}
	s.becomeReady("data_dir", config.DataDir, "next_lsn", s.wal.NextLSN())
	return s, nil
}

// prepare returns a server of which nothing has been started.
func prepare(config Config, version string, log *slog.Logger) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	s := &Server{
		config: config, version: version, began: time.Now(), log: log,
		registry: prometheus.NewRegistry(), stages: telemetry.NewStages(), fatal: make(chan error, 1), bus: events.NewBus(),
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	limitMemory(int64(config.Memtable.BudgetBytes) + 2*config.replayBytes())
	return s, nil
}

// start takes the steps in their order. Where one fails it stops what the others have started.
func (s *Server) start(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return errors.Join(err, s.shutDown(context.Background(), false))
		}
	}
	return nil
}

// becomeReady says so to the admin port, and to the log with the details that are given.
func (s *Server) becomeReady(details ...any) {
	s.ready.Store(true)
	s.log.Info("ready", append([]any{"version", s.version, "grpc", s.GRPCAddress(), "admin", s.AdminAddress(),
		"start_seconds", time.Since(s.began).Seconds()}, details...)...)
}

// overheadBytes is what the server needs beside its budgets: stacks, connections, Parquet row groups, code.
const overheadBytes = 512 << 20

// limitMemory keeps the garbage collector from letting the heap double: most of it is the slab, which is in use. An operator's
// GOMEMLIMIT wins.
func limitMemory(budgetBytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budgetBytes + overheadBytes)
	}
}

func (s *Server) openDataDir(context.Context) (err error) {
	s.unlock, err = datadir.Open(s.config.DataDir)
	return err
}

func (s *Server) startAdmin(context.Context) (err error) {
	healthy := func() error { return nil }
	ready := func() error {
		if s.ready.Load() {
			return nil
		}
		return errors.New("starting, replaying or stopping")
	}
	s.admin, err = telemetry.StartAdmin(s.config.Listen.Admin, s.registry, s.stages, healthy, ready, s.log)
	return err
}

func (s *Server) openAuth(ctx context.Context) (err error) {
	options := auth.Options{Logger: s.log, Registerer: s.registry, Config: s.config.auth()}
	// The JWKS client lives until Close, not until ctx ends.
	s.auth, err = auth.New(context.WithoutCancel(ctx), options)
	return err
}

// openState opens everything that is stored, recovers, and starts the committer and the processor.
func (s *Server) openState(ctx context.Context) error {
	steps := []func(context.Context) error{s.openManifest, s.openWAL, s.openDatabase, s.openParquet, s.recover}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return refused(ctx, err)
		}
	}
	return nil
}

// refused tells damaged state from a start that was called off, from a full disk and from a system call that failed.
func refused(ctx context.Context, err error) error {
	var errno syscall.Errno
	switch {
	case ctx.Err() != nil || errors.As(err, &errno) || errors.Is(err, manifest.ErrNoSpace) || errors.Is(err, wal.ErrNoSpace):
		return err
	case isSink(err):
		return fmt.Errorf("%w: %w", ErrSink, err)
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

func (s *Server) parquetDir() string { return filepath.Join(s.config.DataDir, "parquet") }

func (s *Server) openManifest(context.Context) (err error) {
	s.manifest, err = manifest.Open(vfs.OS, filepath.Join(s.config.DataDir, "manifest"), manifest.Options{
		Logger:       s.log,
		BeforeCreate: func() error { return parquetfile.CheckEmpty(vfs.OS, s.parquetDir()) },
	})
	return err
}

var directModes = map[string]wal.DirectIO{"auto": wal.DirectAuto, "on": wal.DirectOn, "off": wal.DirectOff}

func (s *Server) openWAL(ctx context.Context) (err error) {
	state := s.manifest.State()
	firstLSN := state.LowWatermark
	for _, flushed := range state.Flushed {
		firstLSN = max(firstLSN, flushed)
	}
	if state.Dedupe != nil {
		firstLSN = max(firstLSN, state.Dedupe.LSN) // its positions must not be given out twice, whatever was lost with the log's end
	}
	if s.rebuild, err = processor.NewRebuild(s.manifest, s.config.Ingest.MaxProducers); err != nil {
		return err
	}
	c := s.config.WAL
	s.wal, err = wal.Open(ctx, wal.Options{
		Dir: filepath.Join(s.config.DataDir, "wal"), FS: vfs.OS,
		SegmentSizeBytes: int64(c.SegmentBytes), SpareSegments: c.spareSegments(), MaxGroupBytes: int(c.MaxGroupBytes),
		MaxSizeBytes: int64(c.MaxBytes), DirectIO: directModes[c.DirectIO], FirstLSN: firstLSN + 1,
		Logger: s.log, Registerer: s.registry, OnFrame: s.rebuild.Frame, OnGroup: s.observeGroup,
	})
	if err != nil {
		return err
	}
	id := s.wal.ID()
	switch text := hex.EncodeToString(id[:]); state.WALID {
	case text:
		return nil
	case "":
		return s.manifest.Commit(manifest.Edit{WALID: text})
	default:
		return fmt.Errorf("the manifest belongs to the log %s, but the log here is %s: one of them was lost or replaced", state.WALID, text)
	}
}

func (s *Server) observeGroup(g wal.GroupStats) {
	s.stages.Observe(telemetry.WALWrite, g.Roll+g.Write)
	s.stages.Observe(telemetry.Fdatasync, g.Datasync)
}

func (s *Server) openDatabase(ctx context.Context) (err error) {
	c := s.config.Timescale
	if !c.enabled() {
		return nil
	}
	s.database, err = timescale.Open(context.WithoutCancel(ctx), s.config.timescale(),
		timescale.Options{Logger: s.log, Registerer: s.registry})
	return err
}

func (s *Server) openParquet(context.Context) error {
	c := s.config.Parquet
	if !c.Enabled {
		return nil
	}
	if err := vfs.OS.MkdirAll(s.parquetDir(), 0o755); err != nil {
		return err
	}
	direct, err := vfs.DirectWorks(vfs.OS, s.parquetDir(), "direct-io-probe.tmp")
	if err != nil && !vfs.IsNoSpace(err) { // on a full disk nobody knows: without it, until the next start
		return err
	}
	s.parquet, err = parquetfile.Open(parquetfile.Options{
		FS: vfs.OS, Dir: s.parquetDir(), Manifest: s.manifest, Compression: parquetfile.Compression(c.Compression),
		RowGroupRows: c.RowGroupRows, SmallTableRows: c.SmallTableRows, DirectIO: direct && s.config.WAL.DirectIO != "off",
		BloomFilter: c.BloomFilter, Threads: c.Threads, Niceness: c.Nice, DeleteAfter: s.config.Retention.DeleteAfter,
		Logger: s.log, Registerer: s.registry,
	})
	return err
}

func (s *Server) sinks() []processor.Sink {
	var sinks []processor.Sink
	if s.parquet != nil {
		sinks = append(sinks, s.parquet)
	}
	if s.database != nil && s.config.Timescale.Records {
		sinks = append(sinks, timescale.NewRecordSink(s.database, s.wal.ID()))
	}
	return sinks
}

// recover replays the log and starts the parts that write: the processor and the committer.
func (s *Server) recover(ctx context.Context) (err error) {
	c := s.config
	sinks := s.sinks()
	config := processor.DefaultConfig()
	config.MemoryBytes = c.sealedBytes(len(sinks))
	config.ReplayBytes, config.ReplayRecords = c.replayBytes(), uint64(c.Memtable.GenerationRecords)
	config.MaxProducers, config.StartNow, config.Paused = c.Ingest.MaxProducers, c.startNow(), c.Processor.Paused
	s.processor, err = processor.New(config, processor.Dependencies{
		Log: s.wal, Manifest: s.manifest, Sinks: sinks, Events: s.bus, Logger: s.log, Registerer: s.registry, OnFatal: s.fail,
	})
	if err != nil {
		return err
	}
	recovered, err := s.processor.Recover(ctx, s.rebuild)
	s.rebuild = nil
	if err != nil {
		return err
	}
	s.memory = slab.New(int64(c.Memtable.BudgetBytes), s.registry)
	s.ingestion, err = ingestion.New(c.ingestion(), ingestion.Dependencies{
		Log: s.wal, Dedupe: recovered.Dedupe, CommittedLSN: recovered.CommittedLSN, Memory: s.memory, Generations: s.processor,
		Events: s.bus, Stages: s.stages, Logger: s.log, Registerer: s.registry, OnFatal: s.fail,
	})
	if err != nil {
		return err
	}
	return s.processor.Start()
}

func (s *Server) startMetrics(ctx context.Context) (err error) {
	if s.database == nil {
		return nil
	}
	s.metrics, err = metrics.New(ctx, s.config.metrics(), metrics.Dependencies{
		NewWriter: func() metrics.Writer { return timescale.NewMetricWriter(s.database) }, Logger: s.log, Registerer: s.registry,
	})
	return err
}

func (s *Server) startRetention(context.Context) (err error) {
	records, metrics := s.config.retention()
	var rules []retention.Rule
	if s.parquet != nil {
		rules = append(rules, retention.Rule{Store: s.parquet, Policy: records})
	}
	if s.database != nil {
		rules = append(rules, retention.Rule{Store: timescale.NewExpirer(s.database, "records"), Policy: records},
			retention.Rule{Store: timescale.NewExpirer(s.database, "metrics"), Policy: metrics})
	}
	s.retention, err = retention.Start(retention.Options{
		Rules: rules, Interval: s.config.Retention.Interval, Logger: s.log, Registerer: s.registry, OnFatal: s.fail,
	})
	return err
}

func (s *Server) startKafka(context.Context) (err error) {
	config := s.config.kafka()
	if !config.Enabled() {
		return nil
	}
	id := s.wal.ID()
	s.kafka, err = kafka.Start(config, kafka.Dependencies{
		LogID: hex.EncodeToString(id[:]), Positions: s.positions, Events: s.bus, Logger: s.log, Registerer: s.registry,
	})
	return err
}

// positions says how far records have come, stage by stage.
func (s *Server) positions() []kafka.Position {
	positions := []kafka.Position{{Stage: kafka.Stage{Kind: events.NewData}, LSN: s.wal.DurableLSN()}}
	for _, sink := range s.processor.Health() {
		positions = append(positions, kafka.Position{Stage: kafka.Stage{Kind: events.Flushed, Sink: sink.Name}, LSN: sink.FlushedLSN})
	}
	return append(positions, kafka.Position{Stage: kafka.Stage{Kind: events.Committed}, LSN: s.processor.LowWatermark()})
}

func (s *Server) startServing(context.Context) error {
	var submitter ingestionapi.Submitter = s.ingestion
	if s.config.Processor.Paused {
		submitter = pausedSubmitter{submitter}
	}
	if err := s.makeAPIs(submitter); err != nil {
		return err
	}
	return s.listen(s.ingestionAPI)
}

// makeAPIs makes the APIs of batches, which go to submitter, and of metrics.
func (s *Server) makeAPIs(submitter ingestionapi.Submitter) (err error) {
	s.ingestionAPI, err = ingestionapi.New(s.config.ingestionAPI(), ingestionapi.Dependencies{
		Submitter: submitter, Buffers: s.memory, Observer: s.stages, Registerer: s.registry, Now: time.Now,
	})
	if err != nil {
		return err
	}
	dependencies := metricsapi.Dependencies{Now: time.Now}
	if s.metrics != nil {
		dependencies.Submitter = s.metrics
	}
	s.metricsAPI, err = metricsapi.New(s.config.metricsAPI(), dependencies)
	return err
}

// listen serves clients. ingestion is what they reach as storage.IngestionService.
func (s *Server) listen(ingestion grpcService) (err error) {
	s.grpc, err = startGRPC(s.config.Listen.GRPC, s.auth, s.ingestionAPI.ServerOptions(), ingestion, s.metricsAPI)
	return err
}

// fail takes the first error after which nothing can be promised any more; Run then stops the server.
func (s *Server) fail(err error) {
	s.fatalOnce.Do(func() { s.fatal <- fmt.Errorf("%w: %w", kindOf(err), err) })
}

// kindOf says why a running server has to stop.
func kindOf(err error) error {
	var corrupt *wal.CorruptionError
	var invariant *timescale.InvariantError
	switch {
	case errors.As(err, &corrupt) || errors.As(err, &invariant):
		return ErrRefused
	case isSink(err):
		return ErrSink
	}
	return ErrPoisoned
}

func isSink(err error) bool {
	var fenced *timescale.FencedError
	return errors.As(err, &fenced) || errors.Is(err, processor.ErrMisplaced)
}

// Reload reads API keys, JWKS file and certificates anew. A file that cannot be used leaves the old ones in force.
func (s *Server) Reload() {
	if err := s.auth.Reload(); err != nil {
		s.log.Error("reload failed, the credentials in force stay", "error", err)
	}
}

// GRPCAddress is the address that clients use, with the port that was chosen.
func (s *Server) GRPCAddress() string { return s.grpc.address() }

// AdminAddress is the address of health checks, metrics and profiles.
func (s *Server) AdminAddress() string { return s.admin.Address() }
