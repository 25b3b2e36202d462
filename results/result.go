package results

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SchemaVersion is the version of the JSON format that this package writes. It reads all from oldestVersion on, because versions only add.
const (
	SchemaVersion = 2
	oldestVersion = 1
)

//go:embed schema.json
var schemaText []byte

// SchemaText is schema.json, which describes the format. The caller must not change it.
func SchemaText() []byte { return schemaText }

// FileName is the name of the JSON file in the folder of a run.
const FileName = "result.json"

// Result is one run: one or more scenarios, each repeated.
type Result struct {
	SchemaVersion int       `json:"schema_version"`
	StartedAt     time.Time `json:"started_at"`
	DurationNanos int64     `json:"duration_ns"`
	// Command reproduces the run.
	Command []string `json:"command"`
	Verdict Verdict  `json:"verdict"`
	// Objectives are those of all scenarios.
	Objectives []Objective `json:"objectives"`
	// Verify sums the verification over all scenarios and repetitions.
	Verify    Verify      `json:"verify"`
	Env       Environment `json:"env"`
	Scenarios []Scenario  `json:"scenarios"`
}

// Verdict is the outcome of the run.
type Verdict struct {
	State State `json:"state"`
	// ExitCode is what `bench run` exits with.
	ExitCode int `json:"exit_code"`
	// Sentence says it in words.
	Sentence string `json:"sentence"`
}

// Scenario is one scenario of a run.
type Scenario struct {
	Name string `json:"name"`
	// Group and Variant are of a variant: Name is Group/Variant.
	Group       string `json:"group,omitempty"`
	Variant     string `json:"variant,omitempty"`
	Description string `json:"description"`
	File        string `json:"file"`
	State       State  `json:"state"`
	// Reasons say why the state is not pass.
	Reasons []string `json:"reasons,omitempty"`
	// AckLevel is what the acks carried (not what was asked for), Client who sent and how: no rate is shown without them.
	AckLevel string `json:"ack_level"`
	Client   string `json:"client"`
	// LoadSHA256 is a fingerprint of what was sent and done, Server the settings that the scenario gave the server.
	LoadSHA256 string         `json:"load_sha256,omitempty"`
	Server     map[string]any `json:"server,omitempty"`
	// OfferedRate is records per second offered by an open loop; 0 for a closed one.
	OfferedRate float64 `json:"offered_records_per_second"`
	// MinConfidencePct is the least confidence that an objective's interval must have to be judged.
	MinConfidencePct float64     `json:"min_confidence_pct,omitempty"`
	Objectives       []Objective `json:"objectives"`
	// Search is how the rate was found, where it was searched for.
	Search      *Search      `json:"search,omitempty"`
	Verify      Verify       `json:"verify"`
	Repetitions []Repetition `json:"repetitions"`
}

// Objective is a limit, and what was found.
type Objective struct {
	Scenario string  `json:"scenario"`
	Metric   string  `json:"metric"`
	Unit     string  `json:"unit"`
	Op       string  `json:"op"`
	Limit    float64 `json:"limit"`
	// Median, Low and High are over the valid repetitions; absent where nothing was measured. Low and High enclose the median
	// with the given confidence; absent with one repetition. For counts of lost or altered records Median holds
	// the worst of all repetitions.
	Median     *float64 `json:"median"`
	Low        *float64 `json:"low,omitempty"`
	High       *float64 `json:"high,omitempty"`
	Confidence float64  `json:"confidence,omitempty"`
	State      State    `json:"state"`
	Reason     string   `json:"reason,omitempty"`
	// Target names a target of the project; WriteTargets prints a table of those. Compare says what others reach, measured
	// elsewhere.
	Target  string `json:"target,omitempty"`
	Compare string `json:"compare,omitempty"`
}

// Repetition is one measured run of a scenario.
type Repetition struct {
	Index int `json:"index"`
	// Invalid lists the validity rules that it broke, in words. Empty: it counts.
	Invalid []string `json:"invalid,omitempty"`
	// Validity are the scenario's rules and what was found.
	Validity []Check `json:"validity,omitempty"`
	// AckLevel is what the acks of the measured window carried, "mixed (…)" where they were not alike, "none" where nothing was acked.
	AckLevel string `json:"ack_level,omitempty"`
	// Failure says what the server did that no server should: it ended by itself, did not start again, did not drain.
	Failure string `json:"failure,omitempty"`
	// DurationNanos is the measured window, without warm-up and drain.
	DurationNanos int64 `json:"duration_ns"`
	// StealPct is the CPU time that the host took away while the load ran.
	StealPct float64 `json:"steal_pct"`
	// Metrics are the figures by name; Catalogue says what each one means.
	Metrics map[string]float64 `json:"metrics"`
	// Errors count failed batches by reason.
	Errors map[string]int64 `json:"errors,omitempty"`
	Verify Verify           `json:"verify"`
	// Histograms by name: client_response, client_service, client_schedule_lag, and server_<stage>.
	Histograms map[string]Histogram `json:"histograms"`
	// Ceilings are no figures of the server: see Ceiling.
	Ceilings []Ceiling `json:"ceilings,omitempty"`
	Timeline []Sample  `json:"timeline"`
}

// AckLevelSeen is the ack level of all repetitions together; otherwise where none has any.
func AckLevelSeen(repetitions []Repetition, otherwise string) string {
	var seen []string
	for _, repetition := range repetitions {
		if level := repetition.AckLevel; level != "" && level != "none" && !slices.Contains(seen, level) {
			seen = append(seen, level)
		}
	}
	if len(seen) == 0 {
		return otherwise
	}
	return strings.Join(seen, "; ")
}

// Verify is what the independent judge found after a run, in records.
type Verify struct {
	// Checked is false where the stored records were not read back; the counts mean nothing then.
	Checked    bool  `json:"checked"`
	Acked      int64 `json:"acked"`
	Missing    int64 `json:"missing"`
	Duplicate  int64 `json:"duplicate"`
	Corrupt    int64 `json:"corrupt"`
	Unexpected int64 `json:"unexpected"`
	// PartialBatches are batches of which some records are stored and some not; OutOfOrder those whose place in the log
	// contradicts the order of sending; FilesMissing are files that the manifest lists and that cannot be read.
	PartialBatches int64 `json:"partial_batches"`
	OutOfOrder     int64 `json:"out_of_order"`
	FilesMissing   int64 `json:"files_missing"`
	// Examples are the judge's first findings in words.
	Examples []string `json:"examples,omitempty"`
}

// Intact tells whether every acked record is stored once, unaltered and in order, and nothing else is stored.
func (v Verify) Intact() bool {
	return v.Missing == 0 && v.Duplicate == 0 && v.Corrupt == 0 && v.Unexpected == 0 &&
		v.PartialBatches == 0 && v.OutOfOrder == 0 && v.FilesMissing == 0
}

// Faults lists the counts that are not zero, in words.
func (v Verify) Faults() string {
	var faults []string
	for _, fault := range []struct {
		count int64
		name  string
	}{
		{v.Missing, "missing"}, {v.Duplicate, "duplicate"}, {v.Corrupt, "corrupt"}, {v.Unexpected, "unexpected"},
		{v.PartialBatches, "partial batches"}, {v.OutOfOrder, "out of order"}, {v.FilesMissing, "files missing"},
	} {
		if fault.count != 0 {
			faults = append(faults, fmt.Sprintf("%d %s", fault.count, fault.name))
		}
	}
	return strings.Join(faults, ", ")
}

// Add sums two verifications. The sum is checked only if both are.
func (v Verify) Add(other Verify) Verify {
	return Verify{
		Checked:        v.Checked && other.Checked,
		Acked:          v.Acked + other.Acked,
		Missing:        v.Missing + other.Missing,
		Duplicate:      v.Duplicate + other.Duplicate,
		Corrupt:        v.Corrupt + other.Corrupt,
		Unexpected:     v.Unexpected + other.Unexpected,
		PartialBatches: v.PartialBatches + other.PartialBatches,
		OutOfOrder:     v.OutOfOrder + other.OutOfOrder,
		FilesMissing:   v.FilesMissing + other.FilesMissing,
		Examples:       slices.Concat(v.Examples, other.Examples),
	}
}

// Sample is one point of a repetition's timeline.
type Sample struct {
	// ElapsedNanos counts from the start of the load, warm-up included.
	ElapsedNanos int64 `json:"elapsed_ns"`
	// AckedRate and ResponseP99Nanos cover the time since the sample before.
	AckedRate        float64 `json:"acked_records_per_second"`
	ResponseP99Nanos int64   `json:"response_p99_ns"`
	// ServerCPUPct is in percent of one core, since the sample before.
	ServerCPUPct   float64 `json:"server_cpu_pct"`
	ServerRSSBytes int64   `json:"server_rss_bytes"`
	// BacklogRecords are in the server's log and not yet in its sinks; 0 also where the server did not tell.
	BacklogRecords int64 `json:"backlog_records,omitempty"`
}

// Environment is where the run took place.
type Environment struct {
	OS            string `json:"os"`
	Kernel        string `json:"kernel"`
	CPUModel      string `json:"cpu_model"`
	Cores         int    `json:"cores"`
	MemoryBytes   int64  `json:"memory_bytes"`
	FileSystem    string `json:"file_system"`
	Device        string `json:"device"`
	GoVersion     string `json:"go_version"`
	Commit        string `json:"commit"`
	CommitDirty   bool   `json:"commit_dirty"`
	ServerVersion string `json:"server_version"`
	// FdatasyncP50Nanos and FdatasyncP99Nanos are of 4 KiB writes to a preallocated file on the data directory's device,
	// taken before the run.
	FdatasyncP50Nanos int64 `json:"fdatasync_p50_ns"`
	FdatasyncP99Nanos int64 `json:"fdatasync_p99_ns"`
	// StealPct is the CPU time that the host took away during the whole run.
	StealPct float64 `json:"steal_pct"`
}

// Save writes the result as dir/result.json, replacing an older one whole.
func (r *Result) Save(dir string) error {
	encoded, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	path := filepath.Join(dir, FileName)
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, append(encoded, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// Load reads a result from its folder, or from its file.
func Load(path string) (*Result, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		path = filepath.Join(path, FileName)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var version struct {
		SchemaVersion int `json:"schema_version"`
	}
	if err := json.Unmarshal(content, &version); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if version.SchemaVersion < oldestVersion || version.SchemaVersion > SchemaVersion {
		return nil, fmt.Errorf("%s: schema_version %d, this program reads %d to %d", path, version.SchemaVersion, oldestVersion, SchemaVersion)
	}
	var result Result
	if err := json.Unmarshal(content, &result); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &result, nil
}
