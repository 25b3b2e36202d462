package metrics

import (
	"fmt"
	"time"
)

// Config tunes the buffers and their workers.
type Config struct {
	// Shards is the number of buffers, each with a worker and a database connection of its own.
	Shards int
	// BufferSize is the number of metrics that one shard takes, those in its worker's hands included.
	BufferSize int
	// BufferBytes bounds the memory of one shard's metrics.
	BufferBytes int64
	// BatchSize is the number of metrics at which a worker writes without waiting for the ticker.
	BatchSize int
	// FlushInterval is the time after which a worker writes what it has.
	FlushInterval time.Duration
	// RetryMin and RetryMax bound the pause after a failed attempt to write. It doubles from one to the other.
	RetryMin, RetryMax time.Duration
}

// DefaultConfig returns the settings in force where the configuration says nothing.
func DefaultConfig() Config {
	return Config{
		Shards:        2,
		BufferSize:    65_536,
		BufferBytes:   64 << 20,
		BatchSize:     5_000,
		FlushInterval: time.Second,
		RetryMin:      100 * time.Millisecond,
		RetryMax:      10 * time.Second,
	}
}

// Validate reports the first unusable setting.
func (c *Config) Validate() error {
	for _, bound := range []struct {
		name  string
		value int64
	}{
		{"shards", int64(c.Shards)},
		{"buffer_size", int64(c.BufferSize)},
		{"buffer_bytes", c.BufferBytes},
		{"batch_size", int64(c.BatchSize)},
		{"flush_interval", int64(c.FlushInterval)},
		{"retry_min", int64(c.RetryMin)},
	} {
		if bound.value < 1 {
			return fmt.Errorf("metrics.%s must be positive", bound.name)
		}
	}
	if c.RetryMax < c.RetryMin {
		return fmt.Errorf("metrics.retry_max is below retry_min")
	}
	return nil
}
