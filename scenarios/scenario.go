package scenarios

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Scenario is one file, with defaults set.
type Scenario struct {
	// File is where it came from, for messages.
	File string `yaml:"-"`

	SchemaVersion int            `yaml:"schema_version"`
	Name          string         `yaml:"name"`
	Description   string         `yaml:"description"`
	Database      string         `yaml:"database"`
	Server        map[string]any `yaml:"server"`
	Variants      []Variant      `yaml:"variants"`
	Load          Load           `yaml:"load"`
	Neighbour     *Neighbour     `yaml:"neighbour"`
	Actions       []Action       `yaml:"actions"`
	// End is Drain or Kill: how the server ends after the load.
	End string `yaml:"end"`
	// Ceilings are kinds of results.Ceiling that every repetition takes.
	Ceilings        []string      `yaml:"ceilings"`
	CeilingDuration time.Duration `yaml:"ceiling_duration"`
	Repetitions     int           `yaml:"repetitions"`
	Objectives      []Objective   `yaml:"objectives"`
	Validity        Validity      `yaml:"validity"`
	Verify          *bool         `yaml:"verify"`

	// Group and Variant are of a variation: the name of its scenario, and its own.
	Group   string `yaml:"-"`
	Variant string `yaml:"-"`

	// files is the directory that the scenario's file is in.
	files fs.FS
}

// Postgres is the value of Scenario.Database for scenarios that need one.
const Postgres = "postgres"

// Load is what is sent, and how.
type Load struct {
	Method       engine.Method `yaml:"method"`
	Layout       engine.Layout `yaml:"layout"`
	Client       engine.Client `yaml:"client"`
	AckLevel     string        `yaml:"ack_level"`
	Connections  int           `yaml:"connections"`
	Streams      int           `yaml:"streams"`
	InFlight     int           `yaml:"in_flight"`
	BatchRecords int           `yaml:"batch_records"`
	Tenants      int           `yaml:"tenants"`
	Endpoints    int           `yaml:"endpoints"`
	Skew         float64       `yaml:"skew"`
	Seed         uint64        `yaml:"seed"`
	Record       record.Spec   `yaml:"record"`
	Phases       []Phase       `yaml:"phases"`
	Replay       *Replay       `yaml:"replay"`
}

// Phase is a part of the load with one rate.
type Phase struct {
	Name             string          `yaml:"name"`
	Duration         time.Duration   `yaml:"duration"`
	Records          uint64          `yaml:"records"`
	RecordsPerSecond float64         `yaml:"records_per_second"`
	Arrivals         engine.Arrivals `yaml:"arrivals"`
	WarmUp           bool            `yaml:"warm_up"`
}

// Replay names a recording.
type Replay struct {
	File            string  `yaml:"file"`
	TimestampColumn string  `yaml:"timestamp_column"`
	EndpointColumn  string  `yaml:"endpoint_column"`
	Endpoint        string  `yaml:"endpoint"`
	TimeScale       float64 `yaml:"time_scale"`
}

// The things that an Action does.
const (
	Kill    = "kill"
	Drain   = "drain"
	Restart = "restart"
)

// Action is done to the server while the load runs.
type Action struct {
	At time.Duration `yaml:"at"`
	Do string        `yaml:"do"`
}

// Objective is a limit for one metric of package results.
type Objective struct {
	Metric string `yaml:"metric"`
	Op     string `yaml:"op"`
	Limit  Limit  `yaml:"limit"`
	Unit   string `yaml:"unit"`
	// Target names a target of the project, Compare says what others reach.
	Target  string `yaml:"target"`
	Compare string `yaml:"compare"`
}

// Validity holds the rules under which a repetition counts. A nil rule is not checked.
type Validity struct {
	MaxScheduleLagP99    *time.Duration `yaml:"max_schedule_lag_p99"`
	MaxThrottledPct      *float64       `yaml:"max_throttled_pct"`
	MaxThermalEvents     *float64       `yaml:"max_thermal_events"`
	MinConfidencePct     float64        `yaml:"min_confidence_pct"`
	MaxStealPct          *float64       `yaml:"max_steal_pct"`
	MinAchievedRatio     *float64       `yaml:"min_achieved_ratio"`
	MaxOtherCPUPct       *float64       `yaml:"max_other_cpu_pct"`
	MaxOfferedRatio      *float64       `yaml:"max_offered_ratio"`
	MaxClientCPUPct      *float64       `yaml:"max_client_cpu_pct"`
	ServerHeadroomCPUPct float64        `yaml:"server_headroom_cpu_pct"`
}

// Defaults, as schema.json states them.
const (
	defaultHeadroomCPUPct = 50
	defaultInFlight       = 4
	defaultBatchRecords   = 1000
)

// Limit is a number in the metric's unit. In YAML a duration may stand for its nanoseconds.
type Limit float64

// UnmarshalYAML accepts a number or a duration.
func (l *Limit) UnmarshalYAML(unmarshal func(any) error) error {
	var number float64
	if unmarshal(&number) == nil {
		*l = Limit(number)
		return nil
	}
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*l = Limit(duration)
	return nil
}

func (s *Scenario) setDefaults() {
	s.SchemaVersion = SchemaVersion
	if s.Database == "" {
		s.Database = "none"
	}
	if s.End == "" {
		s.End = Drain
	}
	s.Repetitions = max(s.Repetitions, 1)
	if s.Validity.ServerHeadroomCPUPct == 0 {
		s.Validity.ServerHeadroomCPUPct = defaultHeadroomCPUPct
	}
	l := &s.Load
	l.Tenants, l.Endpoints = max(l.Tenants, 1), max(l.Endpoints, 1)
	l.Connections, l.Streams = max(l.Connections, 1), max(l.Streams, 1)
	if l.InFlight == 0 {
		l.InFlight = defaultInFlight
	}
	if l.BatchRecords == 0 {
		l.BatchRecords = defaultBatchRecords
	}
	if l.Method == "" {
		l.Method = engine.Stream
	}
	if l.Layout == "" {
		l.Layout = engine.Rows
	}
	if l.Client == "" {
		l.Client = engine.Prepared
	}
	if l.AckLevel == "" {
		l.AckLevel = DefaultAckLevel(l.Method)
	}
	if l.Replay != nil && l.Replay.TimeScale == 0 {
		l.Replay.TimeScale = 1
	}
}

// VerifyStored tells whether everything shall be read back.
func (s *Scenario) VerifyStored() bool { return s.Verify == nil || *s.Verify }

// Paused tells whether the server flushes nothing while the load runs, so that everything stays in its log.
func (s *Scenario) Paused() bool {
	processor, _ := s.Server["processor"].(map[string]any)
	return processor["paused"] == true
}

// FlushedLater tells whether the server must be started again after the load, to flush what is in its log.
func (s *Scenario) FlushedLater() bool { return s.End == Kill || s.Paused() }

// CeilingLength is how long each ceiling is measured, its warm-up not included.
func (s *Scenario) CeilingLength() time.Duration {
	if s.CeilingDuration > 0 {
		return s.CeilingDuration
	}
	return s.Load.Measured()
}

// Durable tells whether an ack of this scenario promises that data survives, so that a file system in memory must be refused.
func (s *Scenario) Durable() bool { return s.Load.AckLevel != "buffered" }

// OfferedRate is the mean rate of the measured phases of an open loop, in records per second; 0 for a closed loop.
func (l *Load) OfferedRate() float64 {
	records, seconds := 0.0, 0.0
	for _, phase := range l.Phases {
		if phase.WarmUp {
			continue
		}
		if phase.RecordsPerSecond == 0 || phase.Duration == 0 {
			return 0
		}
		records += phase.RecordsPerSecond * phase.Duration.Seconds()
		seconds += phase.Duration.Seconds()
	}
	if seconds == 0 {
		return 0
	}
	return records / seconds
}

// Window is how long the server may take for each batch before the bound on unanswered batches makes the load generator late, at the
// highest rate of the load; 0 for a closed loop.
func (l *Load) Window() time.Duration {
	highest := 0.0
	for _, phase := range l.Phases {
		highest = max(highest, phase.RecordsPerSecond)
	}
	if highest == 0 {
		return 0
	}
	batches := l.Connections * l.Streams
	if l.Method == engine.Stream {
		batches *= l.InFlight
	}
	return time.Duration(float64(batches*l.BatchRecords) / highest * float64(time.Second))
}

// WarmUp is the length of the warm-up at the start of the load.
func (l *Load) WarmUp() time.Duration {
	total := time.Duration(0)
	for _, phase := range l.Phases {
		if !phase.WarmUp {
			break
		}
		total += phase.Duration
	}
	return total
}

// Measured is the length of the phases that are measured.
func (l *Load) Measured() time.Duration {
	total := time.Duration(0)
	for _, phase := range l.Phases {
		if !phase.WarmUp {
			total += phase.Duration
		}
	}
	return total
}

// Words describe the client for tables: "stream, rows, prepared, 1000 a batch".
func (l *Load) Words() string {
	if l.Method == engine.Metrics {
		return fmt.Sprintf("metrics, %d a request", l.BatchRecords)
	}
	return fmt.Sprintf("%s, %s, %s, %d a batch", l.Method, l.Layout, l.Client, l.BatchRecords)
}

// ackLevels are the names that scenarios use.
var ackLevels = map[string]storagepb.AckLevel{
	"buffered":   storagepb.AckLevel_ACK_LEVEL_BUFFERED,
	"wal_synced": storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED,
	"committed":  storagepb.AckLevel_ACK_LEVEL_COMMITTED,
}

// AckLevel returns the level of that name.
func AckLevel(name string) (storagepb.AckLevel, bool) {
	level, ok := ackLevels[name]
	return level, ok
}

// DefaultAckLevel is the level that a service gives where none is asked for.
func DefaultAckLevel(method engine.Method) string {
	if method == engine.Metrics {
		return "buffered"
	}
	return "wal_synced"
}

// LoadSHA256 is a fingerprint of what is sent and done to the server; not of the server's settings, the
// objectives and the number of repetitions. Figures of unlike loads cannot be compared.
func (s *Scenario) LoadSHA256() string {
	// Nothing here fails to encode: numbers, texts and lists.
	content, _ := json.Marshal([]any{s.Load, s.Neighbour, s.Actions, s.End, s.Database})
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// EngineConfig is the load as the engine takes it. What belongs to one run is left to the caller: target, API keys, script,
// run ID, ledger and progress.
func (l *Load) EngineConfig() engine.Config {
	config := engine.Config{
		Skew: l.Skew, Method: l.Method, Connections: l.Connections, Streams: l.Streams, InFlight: l.InFlight,
		BatchRecords: l.BatchRecords, Layout: l.Layout, Client: l.Client, AckLevel: ackLevels[l.AckLevel],
		Spec: l.Record, Seed: l.Seed,
	}
	for i := range l.Tenants {
		config.Tenants = append(config.Tenants, engine.Tenant{ID: fmt.Sprintf("tenant-%03d", i)})
	}
	for i := range l.Endpoints {
		config.Endpoints = append(config.Endpoints, fmt.Sprintf("endpoint-%03d", i))
	}
	for _, phase := range l.Phases {
		config.Phases = append(config.Phases, engine.Phase{
			Name: phase.Name, Duration: phase.Duration, Records: phase.Records,
			RecordsPerSecond: phase.RecordsPerSecond, Arrivals: phase.Arrivals, Warmup: phase.WarmUp,
		})
	}
	if l.Replay != nil && len(config.Phases) == 0 {
		config.Phases = []engine.Phase{{Name: "replay"}}
	}
	return config
}

// CopyRecording writes the recording of a replay scenario into dir and returns the copy's path. Scenarios are read from
// directories and from the program itself; the ledger needs a path.
func (s *Scenario) CopyRecording(dir string) (string, error) {
	content, err := fs.ReadFile(s.files, filepath.ToSlash(s.Load.Replay.File))
	if err != nil {
		return "", fmt.Errorf("recording of scenario %s: %w", s.Name, err)
	}
	path := filepath.Join(dir, filepath.Base(s.Load.Replay.File))
	return path, os.WriteFile(path, content, 0o644)
}
