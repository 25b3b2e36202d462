// Package acks tells how far a load has come while it still runs, so that tests wait for progress and not for time.
package acks

import (
	"fmt"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
)

// Count counts the acked batches in the ledger at path, which writer is still writing.
func Count(path string, writer *ledger.Writer) (batches uint64, err error) {
	if err := writer.Flush(); err != nil {
		return 0, fmt.Errorf("count acks in %s: %w", path, err)
	}
	return writer.AckedBatches(), nil
}
