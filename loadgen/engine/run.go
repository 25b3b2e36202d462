package engine

import (
	"context"
	"errors"
)

// maxMetricsInRequest is what the identity of a metric has room for.
const maxMetricsInRequest = 1 << 15

// Run puts the load of c on the server and returns what it showed. When ctx ends the run stops early; the result then covers what was
// done, and the error is ctx's.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return nil, errors.New("engine: not connected yet")
}
