package scenarios

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ingestor-project/ingestor/loadgen/engine"
)

// Neighbour is a load of other tenants that runs beside the scenario's own, for as long. Its figures are kept apart.
type Neighbour struct {
	Layout           engine.Layout `yaml:"layout"`
	Connections      int           `yaml:"connections"`
	Streams          int           `yaml:"streams"`
	InFlight         int           `yaml:"in_flight"`
	BatchRecords     int           `yaml:"batch_records"`
	Tenants          int           `yaml:"tenants"`
	RecordsPerSecond float64       `yaml:"records_per_second"`
}

// NeighbourConfig is the neighbour's load as the engine takes it, to be run beside the load of config and to share its ledger.
func (s *Scenario) NeighbourConfig(config engine.Config) engine.Config {
	n := s.Neighbour
	neighbour := config
	neighbour.FirstTenant, neighbour.FirstProducer = config.FirstTenant+len(config.Tenants), config.FirstProducer+config.Producers()
	neighbour.Skew, neighbour.Method, neighbour.Client, neighbour.Progress = 0, engine.Stream, engine.Prepared, nil
	neighbour.Layout, neighbour.Connections, neighbour.Streams = cmp.Or(n.Layout, engine.Rows), n.Connections, n.Streams
	neighbour.InFlight, neighbour.BatchRecords = n.InFlight, n.BatchRecords
	neighbour.Tenants, neighbour.Phases = nil, nil
	for i := range max(1, n.Tenants) {
		neighbour.Tenants = append(neighbour.Tenants, engine.Tenant{ID: fmt.Sprintf("neighbour-%03d", i)})
	}
	for _, phase := range config.Phases {
		phase.Records, phase.RecordsPerSecond = 0, n.RecordsPerSecond
		neighbour.Phases = append(neighbour.Phases, phase)
	}
	return neighbour
}

func (d *document) checkNeighbour(s *Scenario) {
	at := []string{"neighbour"}
	switch {
	case s.Neighbour == nil:
		return
	case s.Load.Method == engine.Metrics || s.Load.Replay != nil:
		d.report(at, "a neighbour needs a load of synthetic records")
		return
	}
	config := s.Load.EngineConfig()
	config.Target = "checked without one"
	if err := s.NeighbourConfig(config).Validate(); err != nil {
		d.report(at, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}
