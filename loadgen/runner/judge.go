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

const maxExamples = 3

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
			found.Examples = append(found.Examples, exampleWords(report.Source, example))
		}
		sum.Verify = sum.Add(found)
		sum.rows += report.Rows
	}
	return sum
}

func exampleWords(source string, e verify.Example) string {
	text := fmt.Sprintf("%s in %s: event %s of %s/%s, producer %d, sequence %d, index %d", e.Fault, source,
		e.EventID, e.Tenant, e.Endpoint, e.Producer, e.Sequence, e.Index)
	if e.File != "" {
		text += ", in " + e.File
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// judge finds out what is stored. The server has been stopped. What a drain left in the log, because its time was up, is not lost:
// the server is started again to flush it, as long as that brings any of it back. So is one that failed, to see whether the
// data survived.
func (a *attempt) judge(ctx context.Context) (verification, error) {
	if !a.scenario.VerifyStored() {
		return verification{}, nil
	}
	if a.failure != "" {
		if err := a.flushAgain(ctx); err != nil {
			a.failure += "; it could not be started again for the verification: " + err.Error()
			return verification{}, nil
		}
	}
	first, err := a.verify(ctx)
	if err != nil {
		return first, err
	}
	found, err := catchUp(first,
		func() error {
			a.run.options.Console.step("flushing what the drain left in the log")
			return a.flushAgain(ctx)
		},
		func() (verification, error) { return a.verify(ctx) })
	a.leftInLog = first.Missing - found.Missing
	return found, err
}

// catchUp flushes and verifies until nothing is missing, or a flush brings nothing back.
func catchUp(found verification, flush func() error, verify func() (verification, error)) (verification, error) {
	for found.Missing > 0 {
		if err := flush(); err != nil {
			return found, fmt.Errorf("flush what the drain has left in the log: %w", err)
		}
		again, err := verify()
		if err != nil || again.Missing >= found.Missing {
			return found, err
		}
		found = again
	}
	return found, nil
}

// flushAgain starts the server on its data and drains it.
func (a *attempt) flushAgain(ctx context.Context) error {
	if err := a.server.Restart(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	status, err := a.server.Terminate(ctx)
	if err != nil {
		return err
	}
	if status.Code != 0 {
		return fmt.Errorf("it ended its drain with %s; its log ends with: %s", status, a.server.LogTail())
	}
	return nil
}

// verify has the judge read back what is stored.
func (a *attempt) verify(ctx context.Context) (verification, error) {
	var reports []*verify.Report
	read := func(report *verify.Report, err error) error {
		reports = append(reports, report)
		return err
	}
	var err error
	if a.scenario.Load.Method == engine.Metrics {
		err = read(verify.Metrics(ctx, a.dsn, a.ledgerPath()))
	} else {
		err = read(verify.Parquet(ctx, a.server.DataDir(), a.ledgerPath()))
		if err == nil && a.dsn != "" {
			err = read(verify.Postgres(ctx, a.dsn, a.ledgerPath()))
		}
	}
	if err != nil {
		return verification{}, fmt.Errorf("read back what is stored: %w", err)
	}
	return fromReports(reports...), nil
}
