package runner

import (
	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/replay"
)

// Replay makes config send a recording, in batches of config.BatchRecords, instead of its phases, and returns the header that a ledger
// of the run needs.
func Replay(config *engine.Config, options replay.Options, pace replay.Pace) (ledger.Header, error) {
	recording, err := replay.Open(options)
	if err != nil {
		return ledger.Header{}, err
	}
	script, err := recording.Script(config.BatchRecords, pace)
	if err != nil {
		return ledger.Header{}, err
	}
	config.Script = script
	config.Client = engine.Live
	config.Endpoints = recording.Endpoints()
	config.Phases = []engine.Phase{{Name: "replay"}}
	header := config.LedgerHeader()
	reference := recording.Reference()
	header.Replay = &reference
	return header, nil
}

// ledgerHeader completes config where the scenario replays a recording, and returns the header of the repetition's ledger.
func (a *attempt) ledgerHeader(config *engine.Config) (ledger.Header, error) {
	from := a.scenario.Load.Replay
	if from == nil {
		return config.LedgerHeader(), nil
	}
	path, err := a.scenario.CopyRecording(a.dir)
	if err != nil {
		return ledger.Header{}, err
	}
	return Replay(config, replay.Options{
		Path: path, TimestampColumn: from.TimestampColumn, EndpointColumn: from.EndpointColumn, Endpoint: from.Endpoint,
	}, replay.Pace{TimeScale: from.TimeScale})
}
