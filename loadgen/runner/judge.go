package runner

import (
	"context"

	"fmt"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/verify"
	"github.com/ingestor-project/ingestor/results"
)

// verification is the judge's finding, and how many rows it has compared.
type verification struct {
	results.Verify
	rows uint64
}

const maxExamples = 5

// fromReports sums the judge's reports on all places where records are stored. A record counts as acked once, however many places there are.
func fromReports(reports ...*verify.Report) verification {
	sum := verification{Verify: results.Verify{Checked: true}}
	for i, report := range reports {
		found := results.Verify{
			Checked: true, Missing: int64(report.Missing), Duplicate: int64(report.Duplicate), Corrupt: int64(report.Corrupt),
			Unexpected: int64(report.Unexpected), PartialBatches: int64(report.PartialBatches),
			OutOfOrder: int64(report.OutOfOrder), FilesMissing: int64(report.FilesMissing),
		}
		if i == 0 {
			found.Acked = int64(report.Acked)
		}
		for _, example := range report.Examples[:min(len(report.Examples), maxExamples)] {
			found.Examples = append(found.Examples, fmt.Sprintf("%s in %s: %+v", example.Fault, report.Source, example))
		}
		sum.Verify = sum.Add(found)
		sum.rows += report.Rows
	}
	return sum
}

// verify has the judge read back what is stored. The server must have been drained.
func (a *attempt) verify(ctx context.Context) (verification, error) {
	if !a.scenario.VerifyStored() || a.failure != "" {
		return verification{}, nil
	}
	var reports []*verify.Report
	judge := func(report *verify.Report, err error) error {
		reports = append(reports, report)
		return err
	}
	var err error
	switch {
	case a.scenario.Load.Method == engine.Metrics:
		err = judge(verify.Metrics(ctx, a.dsn, a.ledgerPath()))
	case a.dsn != "":
		err = judge(verify.Parquet(ctx, a.server.DataDir(), a.ledgerPath()))
		if err == nil {
			err = judge(verify.Postgres(ctx, a.dsn, a.ledgerPath()))
		}
	default:
		err = judge(verify.Parquet(ctx, a.server.DataDir(), a.ledgerPath()))
	}
	if err != nil {
		return verification{}, fmt.Errorf("read back what is stored: %w", err)
	}
	return fromReports(reports...), nil
}
