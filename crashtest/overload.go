package crashtest

import (
	"context"
	"errors"

	"github.com/ingestor-project/ingestor/loadgen/engine"
)

// Overload sends more than a server with short queues takes, at all ack levels, until each kind of load that has a queue of its own was refused
// more than atLeast times. No one is ended by force: what is acked, even as BUFFERED, must be there in the end.
func (c *Campaign) Overload(ctx context.Context, atLeast uint64) error {
	shapes := []shape{
		{engine.Config{Method: engine.Unary, Layout: engine.Rows, Client: engine.Live, Connections: 1, Streams: 8, InFlight: 1, BatchRecords: 10,
			AckLevel: bufferedLevel}, 4000},
		{engine.Config{Method: engine.Unary, Layout: engine.Columns, Client: engine.Live, Connections: 1, Streams: 8, InFlight: 1, BatchRecords: 10,
			AckLevel: syncedLevel}, 4000},
	}
	if c.DSN != "" {
		shapes = append(shapes, shape{engine.Config{Method: engine.Metrics, Connections: 1, Streams: 4, InFlight: 1, BatchRecords: 20,
			AckLevel: bufferedLevel}, 4000})
	}
	if err := c.startLoad(ctx, shapes); err != nil {
		return err
	}
	l := c.load
	err := c.Await(func() (bool, error) {
		records, metrics := uint64(0), uint64(0)
		for _, b := range l.books {
			if b.metrics {
				metrics += b.writer.RefusedBatches()
			} else {
				records += b.writer.RefusedBatches()
			}
		}
		return records > atLeast && (c.DSN == "" || metrics > atLeast), nil
	})
	return errors.Join(err, c.stopLoad())
}
