package runner

import (
	"context"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/results"
)

// sampler follows what the server costs, over restarts. It is used from one goroutine at a time.
type sampler struct {
	server   *serverproc.Server
	timeline []results.Sample
	pid      int
	last     serverproc.Usage
	lastAt   time.Duration

	cpu          time.Duration
	writeBytes   int64
	rssPeakBytes int64

	backlogPeak, backlogNow int64 // in records
}

// backlogTimeout bounds the question for the backlog, so that a server in trouble holds up the progress report for a moment only.
const backlogTimeout = 2 * time.Second

// newSampler begins with what the server has cost so far, so that only the load's part is counted.
func newSampler(server *serverproc.Server) *sampler {
	s := &sampler{server: server}
	s.advance()
	s.cpu, s.writeBytes = 0, 0
	return s
}

// advance adds what the server has cost since the last call, and returns the CPU part. A server that is down costs nothing; after a
// restart the count begins anew, and what the old process did since the last call is not known.
func (s *sampler) advance() time.Duration {
	usage, err := s.server.Usage()
	if err != nil {
		return 0
	}
	if pid := s.server.PID(); pid != s.pid {
		s.pid, s.last = pid, serverproc.Usage{}
	}
	cpu := usage.CPU - s.last.CPU
	s.cpu += cpu
	s.writeBytes += usage.WriteBytes - s.last.WriteBytes
	s.rssPeakBytes = max(s.rssPeakBytes, usage.RSSPeakBytes)
	s.last = usage
	return cpu
}

func (s *sampler) sample(p engine.Progress) {
	interval := p.Elapsed - s.lastAt
	if interval <= 0 {
		return
	}
	cpu := s.advance()
	s.lastAt = p.Elapsed
	s.backlogNow = s.backlog()
	s.backlogPeak = max(s.backlogPeak, s.backlogNow)
	s.timeline = append(s.timeline, results.Sample{
		ElapsedNanos:     int64(p.Elapsed),
		AckedRate:        float64(p.AckedRecords) / interval.Seconds(),
		ResponseP99Nanos: int64(p.ResponseP99),
		ServerCPUPct:     100 * float64(cpu) / float64(interval),
		ServerRSSBytes:   s.last.RSSBytes,
		BacklogRecords:   s.backlogNow,
	})
}

// backlog counts the records that are in the server's log and not in its sinks, or is 0 where the server does not tell.
func (s *sampler) backlog() int64 {
	ctx, cancel := context.WithTimeout(context.Background(), backlogTimeout)
	defer cancel()
	families, err := s.server.Metrics(ctx)
	if err != nil {
		return 0
	}
	records, _ := serverproc.SumMetric(families, "ingestor_sink_pending_records")
	return int64(records)
}

// measured are the samples whose time lies wholly after the warm-up.
func (s *sampler) measured(warmUp time.Duration) []results.Sample {
	for i := range s.timeline {
		if i == 0 && warmUp == 0 || i > 0 && s.timeline[i-1].ElapsedNanos >= int64(warmUp) {
			return s.timeline[i:]
		}
	}
	return nil
}

// finish counts what came after the last sample.
func (s *sampler) finish() { s.advance() }
