package around_test

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// metricsPerSecond keeps the buffer from filling while the database is away for the pause after some failures.
const metricsPerSecond = 2000

// whileMetricsCome returns what runs a round beside a load on LogMetric, waits until some of it was acked, and judges the metrics of all
// rounds: what is acked is stored once, and a request as a whole or not at all. A round must leave the server drained of them.
func (c *campaign) whileMetricsCome(level storagepb.AckLevel) func(round func() error) error {
	var ledgers []string
	return func(round func() error) error {
		c.t.Helper()
		config := engine.Config{
			Method: engine.Metrics, Endpoints: []string{"metrics"}, Client: engine.Live, Connections: 1, Streams: 8, BatchRecords: 25,
			AckLevel: level, Epoch: 1, Seed: c.Rng.Uint64(),
			Phases: []engine.Phase{{Name: "until stopped", Duration: time.Hour, RecordsPerSecond: metricsPerSecond}},
		}
		config.Target, config.Tenants = c.Campaign.Target()
		for i := range config.RunID {
			config.RunID[i] = byte(c.Rng.Uint32())
		}
		path := filepath.Join(c.t.TempDir(), "metrics.ledger")
		writer, err := ledger.Create(path, config.LedgerHeader())
		require.NoError(c.t, err)
		ledgers = append(ledgers, path)
		config.Ledger = writer

		ctx, stop := context.WithCancel(c.t.Context())
		ended := make(chan error, 1)
		var result *engine.Result
		go func() {
			var err error
			result, err = engine.Run(ctx, config)
			ended <- err
		}()
		err = round()
		if err == nil {
			err = c.Await(func() (bool, error) {
				return writer.AckedBatches() > 0, nil
			})
		}
		stop()
		if runErr := <-ended; !errors.Is(runErr, context.Canceled) {
			err = errors.Join(err, runErr)
		}
		if err := errors.Join(err, writer.Close()); err != nil {
			return err
		}
		require.Empty(c.t, result.LaneErrors)
		if err := c.Drain(c.t.Context()); err != nil {
			return err
		}
		report, err := verify.Metrics(c.t.Context(), c.dsn, ledgers...)
		if err != nil {
			return err
		}
		c.t.Log(report)
		require.True(c.t, report.OK(), "%s\n%+v", report, report.Examples)
		require.Positive(c.t, report.Acked)
		return nil
	}
}
