package engine

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// runWithLedger runs c, and returns its result and ledger.
func runWithLedger(t *testing.T, c Config) (*Result, *ledger.Ledger, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := ledger.Create(path, c.LedgerHeader())
	require.NoError(t, err)
	c.Ledger = w
	result, runErr := Run(t.Context(), c)
	require.NoError(t, w.Close())
	l, err := ledger.Open(path)
	require.NoError(t, err)
	return result, l, runErr
}

// requireStoredAsSent holds what the server stored against the ledger: every acked batch is there once, with the records of its
// identity, and nothing else is.
func requireStoredAsSent(t *testing.T, s *memoryServer, l *ledger.Ledger, source record.Source) {
	t.Helper()
	stored := make(map[uint16]map[uint64]bool)
	for i, r := range s.batches {
		var eventID []byte
		if c := r.GetColumns(); c != nil {
			eventID = c.EventIds[:16]
		} else {
			eventID = r.Records[0].EventId
		}
		id, ok := record.Parse(record.ID(eventID))
		require.True(t, ok)
		p := l.Producers[id.Producer]
		require.NotNil(t, p)
		b := p.Batch(id.Sequence)
		require.NotNil(t, b)
		require.Equal(t, id.Sequence, r.GetSequence())
		require.Equal(t, l.Header.Endpoints[b.Endpoint], r.GetEndpointId())
		require.Equal(t, "Bearer key-"+l.Header.Tenants[b.Tenant], s.tenants[i])
		requireRecords(t, source, record.Batch{
			Producer: id.Producer, Sequence: id.Sequence, UnixMilli: b.UnixMilli, Records: b.Records,
			Endpoint: b.Endpoint, Row: b.Row,
		}, r)
		if stored[id.Producer] == nil {
			stored[id.Producer] = make(map[uint64]bool)
		}
		require.False(t, stored[id.Producer][id.Sequence], "stored once")
		stored[id.Producer][id.Sequence] = true
		require.NotEqual(t, ledger.Absent, b.State)
	}
	for number, p := range l.Producers {
		for i := range p.Batches {
			if p.Batches[i].State == ledger.Stored {
				require.True(t, stored[number][p.First+uint64(i)], "acked and stored")
			}
		}
	}
}

func threeTenants() []Tenant {
	return []Tenant{{"acme", "key-acme"}, {"bolt", "key-bolt"}, {"cora", "key-cora"}}
}

func TestEveryKindOfClientSendsEveryRecordOnce(t *testing.T) {
	for _, method := range []Method{Stream, Unary} {
		for _, client := range []Client{Live, Prepared} {
			for _, layout := range []Layout{Rows, Columns} {
				t.Run(string(method)+"/"+string(client)+"/"+string(layout), func(t *testing.T) {
					s := newMemoryServer()
					c := Config{
						Target: s.serve(t), Tenants: threeTenants(), Endpoints: []string{"a", "b"}, Skew: 1,
						Method: method, Client: client, Layout: layout, Connections: 2, Streams: 2, BatchRecords: 10,
						Phases: []Phase{{Name: "warm", Records: 95, Warmup: true}, {Name: "load", Records: 2005}},
					}
					result, l, err := runWithLedger(t, c)
					require.NoError(t, err)
					requireStoredAsSent(t, s, l, l.Header.Spec)
					require.Zero(t, s.disorder, "batches of a producer arrive in order")
					require.Equal(t, uint64(2005), result.Measured.Acked.Records)
					require.Equal(t, uint64(95), result.Phases[0].Acked.Records)
					require.Equal(t, result.Measured.Sent, result.Measured.Acked)
					within := result.Phases[0].AckedWithin
					within.merge(result.Phases[1].AckedWithin)
					require.Equal(t, uint64(2100), within.Records, "each ack falls into one phase")
					require.Zero(t, result.Measured.Resent)
					require.Equal(t, int64(result.Measured.Acked.Batches), result.Measured.Response.TotalCount())
					require.Equal(t, uint64(2100), s.next-1)
				})
			}
		}
	}
}

func TestRunsBesideEachOtherShareALedger(t *testing.T) {
	server := newMemoryServer()
	first := Config{
		Target: server.serve(t), Tenants: threeTenants(), Endpoints: []string{"a", "b"}, Streams: 2, BatchRecords: 10,
		Phases: []Phase{{Name: "load", Records: 2000}},
	}
	second := first
	second.Tenants, second.BatchRecords = []Tenant{{"dora", "key-dora"}}, 7
	second.FirstTenant, second.FirstProducer = len(first.Tenants), first.Producers()
	header := first.LedgerHeader()
	header.Tenants = append(header.Tenants, "dora")
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := ledger.Create(path, header)
	require.NoError(t, err)
	var group sync.WaitGroup
	for _, c := range []Config{first, second} {
		c.Ledger = w
		group.Go(func() {
			if _, err := Run(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.NoError(t, w.Close())
	l, err := ledger.Open(path)
	require.NoError(t, err)
	requireStoredAsSent(t, server, l, l.Header.Spec)
}

// TestOpenLoopSeesAStall: the server stands still for one second while batches fall due every 5 ms. Those that are due during the
// stall wait for its end: with the bound of one in flight all but one are sent after it, and still their response times count from
// when they were due. At least 190 of 400 batches are due in the stall, and the wait of their k-th latest is k x 5 ms.
func TestOpenLoopSeesAStall(t *testing.T) {
	for _, method := range []Method{Stream, Unary} {
		t.Run(string(method), func(t *testing.T) {
			const stall = time.Second
			var stalled atomic.Bool
			s := newMemoryServer()
			s.before = func(r *storagepb.WriteBatchRequest, _ bool) error {
				if r.GetSequence() == 100 && stalled.CompareAndSwap(false, true) {
					timer := time.NewTimer(stall)
					<-timer.C
				}
				return nil
			}
			result, err := Run(t.Context(), Config{
				Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, Method: method, InFlight: 1, BatchRecords: 1,
				Phases: []Phase{{Name: "load", Duration: 2 * time.Second, RecordsPerSecond: 200}},
			})
			require.NoError(t, err)
			m := result.Measured
			require.Equal(t, uint64(400), m.Acked.Batches)
			p := func(q float64) time.Duration { return time.Duration(m.Response.ValueAtPercentile(q)) }
			require.GreaterOrEqual(t, time.Duration(m.Response.Max()), stall*99/100)
			require.GreaterOrEqual(t, p(99), stall*9/10, "4 of 400 waited longer")
			require.GreaterOrEqual(t, p(75), stall*4/10, "100 of 400 waited longer")
			require.GreaterOrEqual(t, time.Duration(m.Lag.ValueAtPercentile(99)), stall*9/10, "they were sent late")
			require.Less(t, time.Duration(m.Service.ValueAtPercentile(75)), p(75), "service time alone hides it")
		})
	}
}

// TestUnknownOutcomesAreSentAgain breaks streams and calls, or asks for batches again, before or after they are stored.
func TestUnknownOutcomesAreSentAgain(t *testing.T) {
	broken := func(n uint64) error {
		if n%37 == 0 {
			return status.Error(codes.Unavailable, "broken by the test")
		}
		return nil
	}
	askedFor := func(n uint64) error {
		switch {
		case n%37 == 0:
			return refusal(storagepb.ErrorCode_ERROR_CODE_OUTCOME_UNKNOWN)
		case n%71 == 0:
			return refusal(storagepb.ErrorCode_ERROR_CODE_UNAVAILABLE)
		}
		return nil
	}
	for name, fault := range map[string]func(n uint64) error{"broken": broken, "asked for": askedFor} {
		for _, method := range []Method{Stream, Unary} {
			t.Run(name+"/"+string(method), func(t *testing.T) {
				var before, after atomic.Uint64
				s := newMemoryServer()
				s.before = func(_ *storagepb.WriteBatchRequest, stored bool) error {
					if stored {
						return fault(after.Add(1))
					}
					return fault(before.Add(1))
				}
				result, l, err := runWithLedger(t, Config{
					Target: s.serve(t), Tenants: threeTenants(), Endpoints: []string{"a"}, Method: method,
					Streams: 2, InFlight: 8, BatchRecords: 5, Phases: []Phase{{Name: "load", Records: 2000}},
				})
				require.NoError(t, err)
				requireStoredAsSent(t, s, l, l.Header.Spec)
				if name == "broken" { // the other server stores what follows a batch it asks for again
					require.Zero(t, s.disorder, "batches of a producer arrive in order")
				}
				require.Equal(t, uint64(2000), result.Measured.Acked.Records, "everything is acked in the end")
				require.Equal(t, uint64(2000), s.next-1, "and stored once")
				require.Positive(t, result.Measured.Resent.Batches)
				require.Positive(t, result.Measured.Duplicates.Batches)
				require.Zero(t, result.Measured.Unknown.Batches)
			})
		}
	}
}

// TestRateIsOverTheScheduledTime: the last batches are answered long before a further one would be due.
func TestRateIsOverTheScheduledTime(t *testing.T) {
	for name, phase := range map[string]Phase{
		"planned end":       {Duration: time.Second, RecordsPerSecond: 50},
		"number of records": {Records: 50, RecordsPerSecond: 50},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{
				Target: newMemoryServer().serve(t), Tenants: threeTenants(), Endpoints: []string{"a"}, BatchRecords: 25,
				Phases: []Phase{phase},
			}
			result, err := Run(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, uint64(50), result.Measured.Acked.Records)
			require.GreaterOrEqual(t, result.Measured.Duration, time.Second)
			require.LessOrEqual(t, result.Measured.AckedRecordsPerSecond, 50.0)
		})
	}
}

func TestRefusalsAreFinalAndCounted(t *testing.T) {
	for _, method := range []Method{Stream, Unary} {
		t.Run(string(method), func(t *testing.T) {
			s := newMemoryServer()
			s.before = func(r *storagepb.WriteBatchRequest, stored bool) error {
				if r.GetSequence()%10 == 0 && !stored {
					return refusal(storagepb.ErrorCode_ERROR_CODE_OVERLOADED)
				}
				return nil
			}
			result, l, err := runWithLedger(t, Config{
				Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, Method: method,
				BatchRecords: 10, Phases: []Phase{{Name: "load", Records: 1000}},
			})
			require.NoError(t, err)
			requireStoredAsSent(t, s, l, l.Header.Spec)
			require.Equal(t, map[string]Counts{"OVERLOADED": {10, 100}}, result.Measured.Refused)
			require.Equal(t, ledger.Absent, l.Producers[0].Batch(20).State)
			require.Equal(t, byte(storagepb.ErrorCode_ERROR_CODE_OVERLOADED), l.Producers[0].Batch(20).Code)
		})
	}
}

func TestAServerThatStaysAwayLeavesUnknowns(t *testing.T) {
	for _, method := range []Method{Stream, Unary} {
		t.Run(string(method), func(t *testing.T) {
			s := newMemoryServer()
			s.before = func(r *storagepb.WriteBatchRequest, stored bool) error {
				if r.GetSequence() >= 10 && stored {
					return status.Error(codes.Unavailable, "broken by the test")
				}
				return nil
			}
			result, l, err := runWithLedger(t, Config{
				Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, Method: method, InFlight: 4,
				BatchRecords: 1, RetryFor: 100 * time.Millisecond, Phases: []Phase{{Name: "load", Records: 12}},
			})
			if method == Stream {
				require.ErrorIs(t, err, ErrGaveUp)
			} else {
				require.NoError(t, err)
			}
			requireStoredAsSent(t, s, l, l.Header.Spec)
			require.Equal(t, uint64(9), result.Measured.Acked.Batches)
			require.Positive(t, result.Measured.Unknown.Batches)
			require.Equal(t, ledger.Unknown, l.Producers[0].Batch(10).State)
		})
	}
}

func TestRefusedCredentialEndsTheRun(t *testing.T) {
	s := newMemoryServer()
	s.before = func(*storagepb.WriteBatchRequest, bool) error {
		return status.Error(codes.Unauthenticated, "who are you?")
	}
	_, err := Run(t.Context(), Config{
		Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, BatchRecords: 1,
		Phases: []Phase{{Name: "load", Duration: time.Hour}},
	})
	require.ErrorContains(t, err, "who are you?")
}

// TestNoServerAtAll: without a connection nothing is sent, and nothing can be stored.
func TestNoServerAtAll(t *testing.T) {
	result, l, err := runWithLedger(t, Config{
		Target: "127.0.0.1:1", Tenants: threeTenants()[:1], Endpoints: []string{"a"}, BatchRecords: 1, InFlight: 2,
		RetryFor: 50 * time.Millisecond, Phases: []Phase{{Name: "load", Duration: 10 * time.Second, RecordsPerSecond: 100}},
	})
	require.ErrorIs(t, err, ErrGaveUp)
	require.Zero(t, result.Measured.Sent)
	require.Positive(t, result.Measured.Unsent.Batches)
	require.NotEmpty(t, result.LaneErrors)
	require.Equal(t, ledger.Unknown, l.Producers[0].Batch(1).State)
}

func TestCancelledRunReportsWhatItDid(t *testing.T) {
	for _, method := range []Method{Stream, Unary, Metrics} {
		t.Run(string(method), func(t *testing.T) {
			s := newMemoryServer()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result, err := Run(ctx, Config{
				Target: s.serve(t), Tenants: threeTenants(), Endpoints: []string{"a"}, Method: method, BatchRecords: 1,
				Phases:   []Phase{{Name: "load", Duration: time.Hour}},
				Progress: func(p Progress) { cancel() },
			})
			require.ErrorIs(t, err, context.Canceled)
			m := result.Measured
			require.Positive(t, m.Acked.Batches)
			require.Equal(t, m.Sent.Batches, m.Acked.Batches+m.Unknown.Batches)
			require.Empty(t, result.LaneErrors)
			require.NotEmpty(t, result.Timeline)
			require.Positive(t, result.ClientCPU)
		})
	}
}

func TestMetricsCanBeToldApart(t *testing.T) {
	s := newMemoryServer()
	c := Config{
		Target: s.serve(t), Tenants: threeTenants()[:2], Endpoints: []string{"metrics"}, Method: Metrics, Streams: 2,
		BatchRecords: 50, RunID: [16]byte{1}, Phases: []Phase{{Name: "load", Records: 1234}},
	}
	result, l, err := runWithLedger(t, c)
	require.NoError(t, err)
	require.Equal(t, uint64(1234), result.Measured.Acked.Records)
	require.Equal(t, ledger.Metrics, l.Header.Kind)
	seen := make(map[float64]bool)
	for _, r := range s.metrics {
		require.Equal(t, l.Header.Service, r.GetService())
		for _, m := range r.GetMetrics() {
			id, ok := record.ParseMetricValue(m.GetValue())
			require.True(t, ok)
			b := l.Producers[id.Producer].Batch(id.Sequence)
			require.NotNil(t, b)
			require.Less(t, id.Index, b.Records)
			id.UnixMilli = b.UnixMilli
			require.Equal(t, record.MetricOf(id).TimestampUnixNano, m.GetTimestampUnixNano())
			require.False(t, seen[m.GetValue()])
			seen[m.GetValue()] = true
		}
	}
	require.Len(t, seen, 1234)
}

func TestLedgerFailureEndsTheRun(t *testing.T) {
	s := newMemoryServer()
	c := Config{
		Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, BatchRecords: 1,
		Phases: []Phase{{Name: "load", Duration: time.Hour}},
	}
	w, err := ledger.Create(filepath.Join(t.TempDir(), "ledger"), c.LedgerHeader())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	c.Ledger = w
	_, err = Run(t.Context(), c)
	require.Error(t, err)
	require.False(t, errors.Is(err, context.Canceled), "%v", err)
}

func TestConfigValidate(t *testing.T) {
	good := Config{
		Target: "x:1", Tenants: threeTenants(), Endpoints: []string{"a"}, Phases: []Phase{{Duration: time.Second}},
	}
	require.NoError(t, good.Validate())
	for name, spoil := range map[string]func(*Config){
		"target":      func(c *Config) { c.Target = "" },
		"tenants":     func(c *Config) { c.Tenants = nil },
		"endpoints":   func(c *Config) { c.Endpoints = nil },
		"method":      func(c *Config) { c.Method = "x" },
		"layout":      func(c *Config) { c.Layout = "x" },
		"client":      func(c *Config) { c.Client = "x" },
		"connections": func(c *Config) { c.Connections = -1 },
		"in flight":   func(c *Config) { c.InFlight = 129 },
		"batch":       func(c *Config) { c.BatchRecords = 1<<20 + 1 },
		"producers":   func(c *Config) { c.FirstProducer = record.MaxProducers },
		"skew":        func(c *Config) { c.Skew = -1 },
		"no phases":   func(c *Config) { c.Phases = nil },
		"endless":     func(c *Config) { c.Phases = []Phase{{RecordsPerSecond: 1}} },
		"arrivals":    func(c *Config) { c.Phases = []Phase{{Duration: 1, Arrivals: "x"}} },
		"too short":   func(c *Config) { c.Phases = []Phase{{Duration: 9 * time.Second, RecordsPerSecond: 100}} },
		"spec":        func(c *Config) { c.Spec.Variants = -1 },
		"metrics":     func(c *Config) { c.Method, c.BatchRecords = Metrics, 1<<16 },
	} {
		c := good
		spoil(&c)
		require.Error(t, c.Validate(), name)
	}
	for name, phases := range map[string][]Phase{
		"one batch in time":        {{Duration: 10 * time.Second, RecordsPerSecond: 100}},
		"one smaller batch":        {{Duration: time.Second, RecordsPerSecond: 100, Records: 50}},
		"a warm-up has no figures": {{Duration: time.Second, RecordsPerSecond: 100, Warmup: true}, {Duration: time.Second}},
	} {
		c := good
		c.Phases = phases
		require.NoError(t, c.Validate(), name)
	}
}

// TestAckLevelsAreThoseOfTheAcks: whatever was asked for, the result says what came back.
func TestAckLevelsAreThoseOfTheAcks(t *testing.T) {
	buffered, synced := storagepb.AckLevel_ACK_LEVEL_BUFFERED, storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED
	everyThird := func(r *storagepb.WriteBatchRequest) storagepb.AckLevel {
		if r.GetSequence()%3 == 0 {
			return buffered
		}
		return synced
	}
	for _, test := range []struct {
		level func(*storagepb.WriteBatchRequest) storagepb.AckLevel
		words string
		below uint64
	}{
		{nil, "wal_synced", 0},
		{func(*storagepb.WriteBatchRequest) storagepb.AckLevel { return buffered }, "buffered", 30},
		{everyThird, "mixed (100 records buffered, 200 records wal_synced)", 10},
	} {
		for _, method := range []Method{Stream, Unary} {
			s := newMemoryServer()
			s.level = test.level
			result, err := Run(t.Context(), Config{
				Target: s.serve(t), Tenants: threeTenants()[:1], Endpoints: []string{"a"}, Method: method, BatchRecords: 10,
				AckLevel: synced, Phases: []Phase{{Name: "load", Records: 300}},
			})
			require.NoError(t, err)
			require.Equal(t, test.words, result.Measured.AckedAt.String())
			require.Equal(t, test.below, result.Measured.AckedAt.Below(synced).Batches)
		}
	}
	require.Equal(t, "none", AckLevels{}.String())
}
