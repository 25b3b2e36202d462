package nullsink

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/slab"
	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryBatchIsAnsweredAsBufferedWithLSNsOfItsOwn(t *testing.T) {
	const clients, batches, records = 4, 100, 3
	memory, stages := slab.New(1<<20, nil), telemetry.NewStages()
	sink := New(stages)
	var mu sync.Mutex
	given := map[uint64]bool{}
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for i := range batches {
				buffer, ok := memory.TryGet(1 << 10)
				if !ok {
					t.Error("no memory: a buffer was not released")
					return
				}
				answers := 0
				s := &ingestion.Submission{
					Tenant: "acme", Endpoint: buffer.Bytes()[:6], Buf: buffer, Raw: buffer.Bytes(), Records: records,
					Level: ingestion.AckLevel(1 + i%3), ReceivedAt: time.Now(), Done: func(*ingestion.Submission) { answers++ },
				}
				if err := sink.Submit(s); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if answers != 1 || s.Err != nil || s.Level != ingestion.Buffered || s.Duplicate || s.AckedRecords != records ||
					s.LastLSN != s.FirstLSN+records-1 || s.Buf != nil || s.Raw != nil || s.Endpoint != nil {
					t.Errorf("%d answers, the last one %+v", answers, s)
				}
				for lsn := s.FirstLSN; lsn <= s.LastLSN; lsn++ {
					given[lsn] = true
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	require.Len(t, given, clients*batches*records, "no LSN twice")
	require.Contains(t, given, uint64(1))
	require.Contains(t, given, uint64(clients*batches*records))
	require.Zero(t, memory.UsedBytes())
}
