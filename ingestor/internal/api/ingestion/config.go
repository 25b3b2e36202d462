package ingestion

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Config holds the limits of the API.
type Config struct {
	// MaxBatchBytes bounds one WriteBatchRequest.
	MaxBatchBytes int
	// MaxBatchRecords bounds the records of a batch.
	MaxBatchRecords int
	// MaxRecordBytes bounds one record.
	MaxRecordBytes int
	// MaxFuture is how far a record's timestamp may lie ahead of the server's clock.
	MaxFuture time.Duration
	// Window bounds the unanswered batches of one stream.
	Window int
	// RetryDelay is what a client is told to wait when the server is at its memory budget.
	RetryDelay time.Duration
}

// DefaultConfig returns the limits that hold where nothing else is configured.
func DefaultConfig() Config {
	return Config{
		MaxBatchBytes:   4 << 20,
		MaxBatchRecords: 100_000,
		MaxRecordBytes:  1 << 20,
		MaxFuture:       time.Hour,
		Window:          64,
		RetryDelay:      100 * time.Millisecond,
	}
}

// grpcHeadroom is how many times larger than MaxBatchBytes a message may be and still be refused by this package, with
// details, rather than by gRPC.
const grpcHeadroom = 4

// Validate reports the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.MaxBatchBytes <= 0 || c.MaxBatchBytes > math.MaxInt32/grpcHeadroom:
		return fmt.Errorf("max batch bytes: %d is not within 1 to %d", c.MaxBatchBytes, math.MaxInt32/grpcHeadroom)
	case c.MaxBatchRecords <= 0:
		return errors.New("max batch records: must be positive")
	case c.MaxRecordBytes <= 0:
		return errors.New("max record bytes: must be positive")
	case c.MaxFuture < 0:
		return errors.New("max future: must not be negative")
	case c.Window <= 0:
		return errors.New("window: must be positive")
	case c.RetryDelay <= 0:
		return errors.New("retry delay: must be positive")
	}
	return nil
}
