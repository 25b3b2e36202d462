package ingestor

import (
	"context"
	"errors"
	"os"
	"time"
)

// fatalDrainTimeout is how long clients may take to collect their answers when the log has failed.
const fatalDrainTimeout = 2 * time.Second

// Run serves until ctx ends or something fails for good, then stops in order. Signals on reload, which may be nil, make it Reload.
// The error is nil after an orderly stop, and ErrPoisoned (errors.Is) after a failed write or sync.
func (s *Server) Run(ctx context.Context, reload <-chan os.Signal) error {
	for {
		select {
		case <-reload:
			s.Reload()
		case <-ctx.Done():
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Drain.Timeout)
			defer cancel()
			s.log.Info("stopping")
			err := s.shutDown(drain, true)
			select {
			case fatal := <-s.fatal: // while draining
				err = errors.Join(fatal, err)
			default:
			}
			if err == nil {
				s.log.Info("stopped")
			}
			return err
		case err := <-s.fatal:
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), fatalDrainTimeout)
			defer cancel()
			return errors.Join(err, s.shutDown(drain, false))
		}
	}
}

// shutDown stops what has been started, in the order gRPC, committer, processor, retention, announcements, sinks, log, manifest; metrics beside the first
// three. With flush, the memtables are flushed before ctx ends, as far as the sinks take them; without, everything stays in the log.
func (s *Server) shutDown(ctx context.Context, flush bool) error {
	s.ready.Store(false)
	if s.grpc != nil {
		s.ingestionAPI.Drain()
		s.metricsAPI.Drain()
	}
	metricsStopped := s.stopMetrics(ctx)
	errs := []error{s.stopServing(ctx)}
	closeIf := func(started bool, stop func() error) {
		if started {
			errs = append(errs, stop())
		}
	}
	// The committer is drained without a deadline: what was accepted is appended and synced, or the log has failed.
	closeIf(s.ingestion != nil, func() error { return s.ingestion.Drain(context.Background()) })
	closeIf(s.processor != nil, func() error { return s.stopProcessor(ctx, flush) })
	closeIf(s.ingestion != nil, func() error { return s.ingestion.Close() })
	<-metricsStopped
	closeIf(s.retention != nil, func() error { s.retention.Close(); return nil })
	closeIf(s.kafka != nil, func() error { s.kafka.Close(ctx); return nil })
	s.bus.Close()
	closeIf(s.parquet != nil, func() error { s.parquet.Close(); return nil })
	closeIf(s.database != nil, func() error { s.database.Close(); return nil })
	closeIf(s.wal != nil, func() error { return s.wal.Close() })
	closeIf(s.manifest != nil, func() error { return s.manifest.Close() })
	closeIf(s.auth != nil, func() error { s.auth.Close(); return nil })
	closeIf(s.admin != nil, func() error { return s.stopAdmin(ctx) })
	closeIf(s.unlock != nil, func() error { return s.unlock() })
	return errors.Join(errs...)
}

// sealInterval is how often memtables are sealed during a stop: clients may wait for COMMITTED answers, and those that do not let go
// must not cost the memtables their flush.
const sealInterval = 50 * time.Millisecond

// stopServing lets calls under way end before ctx does. Batches at level COMMITTED are answered when the sinks have them, so the
// memtables are sealed meanwhile instead of waiting for their age.
func (s *Server) stopServing(ctx context.Context) error {
	if s.grpc == nil {
		return nil
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.stop(ctx)
	}()
	ticker := time.NewTicker(sealInterval)
	defer ticker.Stop()
	for {
		select {
		case <-stopped:
			return errors.Join(s.ingestionAPI.Close(), s.metricsAPI.Close())
		case <-ticker.C:
			if s.ingestion != nil {
				// It fails only when ctx ends, and then the calls are ended as well.
				_ = s.ingestion.Seal(ctx)
			}
		}
	}
}

// stopProcessor ends the processor. What a sink does not take in time is no error: the log keeps it.
func (s *Server) stopProcessor(ctx context.Context, flush bool) error {
	if flush {
		if err := s.processor.Flush(ctx); err != nil {
			s.log.Warn("not everything is flushed; the log keeps the rest", "error", err)
		}
	}
	return s.processor.Close()
}

// stopAdmin ends the admin port. A request that is cut off, such as a profile, does not make the stop disorderly.
func (s *Server) stopAdmin(ctx context.Context) error {
	err := s.admin.Close(ctx)
	if err != nil && ctx.Err() != nil {
		s.log.Warn("a request to the admin port was cut off", "error", err)
		return nil
	}
	return err
}

// stopMetrics has the buffered metrics written, and closes the channel that it returns when that is done or ctx has ended. They are in
// no log, so they must not wait until clients and sinks have used up the time: the database is worked for beside them.
func (s *Server) stopMetrics(ctx context.Context) <-chan struct{} {
	stopped := make(chan struct{})
	if s.metrics == nil {
		close(stopped)
		return stopped
	}
	go func() {
		defer close(stopped)
		s.metrics.Close(ctx)
	}()
	return stopped
}
