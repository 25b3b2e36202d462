package ingestor

import (
	"context"
	"log/slog"

	"github.com/ingestor-project/ingestor/ingestor/internal/services/nullsink"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
)

// NullSinkOptions say how a server that stores nothing answers.
type NullSinkOptions struct {
	// Empty makes the methods answer without looking at the request: nothing is copied and nothing validated.
	Empty bool
	// AckRecords is the number of records that every answer states where Empty is set.
	AckRecords uint32
}

// NewNullSink starts a server that stores nothing, to find out what a machine can take at most. Batches go the same way as in a server
// that New makes, up to the point where the commit queue would take them, and are answered there at level BUFFERED. It opens no data
// directory, so that it can run beside a server that uses the same one.
func NewNullSink(ctx context.Context, config Config, options NullSinkOptions, version string, log *slog.Logger) (*Server, error) {
	s, err := prepare(config, version, log)
	if err != nil {
		return nil, err
	}
	serve := func(context.Context) error { return s.serveNullSink(options) }
	if err := s.start(ctx, s.startAdmin, s.openAuth, serve); err != nil {
		return nil, err
	}
	s.becomeReady()
	log.Warn("this server stores nothing: it is for measuring the limits of a machine only")
	return s, nil
}

func (s *Server) serveNullSink(options NullSinkOptions) error {
	s.memory = slab.New(int64(s.config.Memtable.BudgetBytes), s.registry)
	if err := s.makeAPIs(nullsink.New(s.stages)); err != nil {
		return err
	}
	if !options.Empty {
		return s.listen(s.ingestionAPI)
	}
	handler, err := newEmptyHandler(options.AckRecords)
	if err != nil {
		return err
	}
	return s.listen(handler)
}
