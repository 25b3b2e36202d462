package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// Counts are numbers of batches and of their records.
type Counts struct {
	Batches uint64
	Records uint64
}

func (c *Counts) add(records uint64) {
	c.Batches++
	c.Records += records
}

func (c *Counts) merge(o Counts) {
	c.Batches += o.Batches
	c.Records += o.Records
}

// AckLevels count acked batches by the level that their acks carried, which need not be the one that was asked for.
type AckLevels map[storagepb.AckLevel]Counts

func (l AckLevels) add(level storagepb.AckLevel, records uint64) {
	counts := l[level]
	counts.add(records)
	l[level] = counts
}

func (l AckLevels) merge(o AckLevels) {
	for level, counts := range o {
		total := l[level]
		total.merge(counts)
		l[level] = total
	}
}

// String names the level where all acks carried the same one: "wal_synced". Otherwise it says how many records each one has:
// "mixed (900 records buffered, 100 records wal_synced)". Without any ack it is "none".
func (l AckLevels) String() string {
	levels := slices.Sorted(maps.Keys(l))
	switch len(levels) {
	case 0:
		return "none"
	case 1:
		return LevelName(levels[0])
	}
	parts := make([]string, len(levels))
	for i, level := range levels {
		parts[i] = fmt.Sprintf("%d records %s", l[level].Records, LevelName(level))
	}
	return "mixed (" + strings.Join(parts, ", ") + ")"
}

// Below counts what was acked at a level that promises less than the one asked for.
func (l AckLevels) Below(asked storagepb.AckLevel) Counts {
	var below Counts
	for level, counts := range l {
		if level < asked {
			below.merge(counts)
		}
	}
	return below
}

// LevelName is the name of an ack level in figures, such as "wal_synced".
func LevelName(level storagepb.AckLevel) string {
	return strings.ToLower(strings.TrimPrefix(level.String(), "ACK_LEVEL_"))
}

// PhaseResult is what happened to the batches that were due in one phase, and what was acked while it lasted.
type PhaseResult struct {
	Name   string
	Warmup bool
	// Duration is from the phase's start to its planned end, also where the last batch is answered earlier. Where it had no
	// planned end, it is to the last answer, and at a given rate at least to when a further batch would be due. A run that
	// stops early ends it.
	Duration time.Duration

	Due        Counts            // by the schedule, within the phase
	Sent       Counts            // of those due
	Unsent     Counts            // due, but the run was over before their turn came, or there was no connection
	Acked      Counts            // of those sent
	AckedAt    AckLevels         // the same, by what the acks said
	Duplicates Counts            // acked as stored before, after a resend
	Resent     Counts            // each time a batch was sent again
	Refused    map[string]Counts // by name of storage.ErrorCode, or of the gRPC code where there was none
	Unknown    Counts            // sent, but without an answer that settles it
	WireBytes  uint64            // of requests first sent, protobuf only

	// AckedWithin counts acks that arrived between the phase's start and end, whatever phase the batch was due in.
	AckedWithin Counts
	// AckedRecordsPerSecond is AckedWithin over Duration.
	AckedRecordsPerSecond float64

	// Times of acked batches in nanoseconds. Response counts from when the batch was due, Service from when it was
	// (last) sent, Lag from when it was due to when it was first sent.
	Response, Service, Lag *hdrhistogram.Histogram
}

// Sample is one interval of about a second.
type Sample struct {
	Elapsed       time.Duration // since the start of the run, at the end of the interval
	Phase         string        // at the end of the interval; after the last one's end still that one
	SentRecords   uint64        // in the interval
	AckedRecords  uint64        // in the interval
	InFlight      int64         // batches unanswered, at its end
	ResponseP50   time.Duration
	ResponseP99   time.Duration
	ResponseMax   time.Duration
	RefusedTotal  uint64 // batches, since the start
	AckedTotal    uint64 // records, since the start
	LastErrorText string // of the latest broken stream or call; empty where there was none in the interval
}

// Progress is what the progress callback is given.
type Progress = Sample

// Result is what a run showed.
type Result struct {
	Config    Config // with defaults set
	Started   time.Time
	Elapsed   time.Duration
	Phases    []PhaseResult
	Measured  PhaseResult // all phases that are not warm-up, merged
	Timeline  []Sample
	ClientCPU time.Duration // user and system time of this process during the run
	// LaneErrors are the reasons why lanes gave up, if any did.
	LaneErrors []string
}
