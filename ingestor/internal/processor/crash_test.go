package processor

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/ingestion"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

var errCrashed = errors.New("the machine has crashed")

// history is what an outside judge knows: it survives all crashes.
type history struct {
	mu    sync.Mutex
	acked map[batchID]uint64 // first LSN
	// sent holds the record count of every batch ever sent.
	sent map[batchID]int
}

// machine is a server with its disks and databases that loses its power after a number of steps.
type machine struct {
	mu        sync.Mutex // held during the crash and during each sink's transaction
	rng       *rand.Rand // guarded by mu
	steps     int
	crashed   bool
	fs        *crashfs.FS
	databases []*database
	// What is found after the crash.
	fsAfter        *crashfs.FS
	databasesAfter []*database
}

// step is called at every boundary at which the power may be cut. After the cut it fails everything.
func (m *machine) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return errCrashed
	}
	if m.steps--; m.steps > 0 {
		return nil
	}
	m.crashed = true
	m.fsAfter = m.fs.Crash(m.rng)
	for _, d := range m.databases {
		m.databasesAfter = append(m.databasesAfter, d.clone())
	}
	return errCrashed
}

// alive runs f unless the machine has crashed: what a client learns, it learns before the crash.
func (m *machine) alive(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.crashed {
		f()
	}
	return !m.crashed
}

// flaky is a step at which a healthy machine's database sometimes fails, too.
func (m *machine) flaky() error {
	if err := m.step(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rng.IntN(8) == 0 {
		return errDown
	}
	return nil
}

func (m *machine) sinks() []Sink {
	var sinks []Sink
	for _, d := range m.databases {
		sinks = append(sinks, &fakeSink{lock: &m.mu, database: d, asked: m.flaky, before: m.flaky, after: m.flaky})
	}
	return sinks
}

// produce is one client in one life of the server. It first resends what it has no answer for, and some of what it
// has, then sends new batches. It returns when the server is gone or all is sent and answered.
func produce(t *testing.T, w *world, m *machine, h *history, producer byte, next *uint64, rng *rand.Rand) {
	var answers sync.WaitGroup
	defer answers.Wait()
	send := func(id batchID) bool {
		h.mu.Lock()
		records := h.sent[id]
		if records == 0 {
			records = 1 + rng.IntN(9)
			h.sent[id] = records
		}
		former, known := h.acked[id]
		h.mu.Unlock()
		answers.Add(1)
		err := w.send(encode(id, 1, records), ingestion.WALSynced, func(s *ingestion.Submission) {
			defer answers.Done()
			m.alive(func() {
				if s.Err != nil {
					// What is resent is among the producer's last batches: it is new, or a duplicate.
					if s.Err.Code == refusal.SequenceOutOfOrder {
						t.Errorf("batch %v, resent, was refused: %v", id, s.Err)
					}
					return
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				if known && (!s.Duplicate || s.FirstLSN != former) {
					t.Errorf("batch %v was acked at LSN %d and, resent, at %d", id, former, s.FirstLSN)
				}
				h.acked[id] = s.FirstLSN
			})
		})
		if err != nil {
			answers.Done()
		}
		return err == nil && m.alive(func() {})
	}
	from := uint64(1)
	if *next > 40 {
		from = *next - 40
	}
	for sequence := from; sequence < *next; sequence++ {
		id := batchID{producer, sequence}
		h.mu.Lock()
		_, known := h.acked[id]
		h.mu.Unlock()
		if known && rng.IntN(4) > 0 {
			continue
		}
		if !send(id) {
			return
		}
	}
	answers.Wait()
	for range 30 {
		*next++
		if !send(batchID{producer, *next - 1}) {
			return
		}
		if rng.IntN(3) == 0 {
			answers.Wait()
		}
	}
}

// Whatever the moment of a power cut, between any two steps of log, sinks and manifest, everything that was
// acknowledged is in every sink once, at the position that was acknowledged, and nothing else is there but batches
// that were sent.
func TestExactlyOnceOverCrashes(t *testing.T) {
	run := crashlevel.Start(t, "pipeline, lives under load", "power cuts", "./ingestor/internal/processor")
	rng := rand.New(rand.NewPCG(run.Seed(), 0))
	for range crashlevel.Pick(t, 6, 60, 5000) {
		run.Explored(int64(liveAndDie(t, rng)))
		if t.Failed() {
			return
		}
	}
}

// liveAndDie returns how many power cuts there were.
func liveAndDie(t *testing.T, rng *rand.Rand) int {
	const producers, lives = 3, 12
	h := &history{acked: map[batchID]uint64{}, sent: map[batchID]int{}}
	next := [producers]uint64{1, 1, 1}
	fsys, databases := crashfs.New(), []*database{newDatabase("one"), newDatabase("two")}
	crashes := 0
	for life := range lives {
		last := life == lives-1
		m := &machine{
			rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), steps: 1 + rng.IntN(10+rng.IntN(500)),
			fs: fsys, databases: databases,
		}
		if last {
			m.steps = 1 << 30
		}
		fsys.Before(func(crashfs.Op) error { return m.step() })
		set := testSettings()
		set.ingestion.Generation.GenerationRecords = uint64(1 + rng.IntN(150))
		set.processor.MemoryBytes = int64(rng.IntN(64 << 10))
		set.processor.ReplayRecords = uint64(1 + rng.IntN(100))
		w, err := open(fsys, set, m.sinks()...)
		if err == nil {
			var clients sync.WaitGroup
			for p := range producers {
				clientRNG := rand.New(rand.NewPCG(rng.Uint64(), 0))
				clients.Go(func() { produce(t, w, m, h, byte(p), &next[p], clientRNG) })
			}
			clients.Wait()
			if m.alive(func() {}) {
				require.Empty(t, w.fatal)
			}
			if last {
				w.drain(t)
				break
			}
			err = w.close() // stops without having flushed everything, unless the crash came first
		}
		if m.alive(func() {}) {
			require.NoError(t, err)
			continue
		}
		crashes++
		fsys, databases = m.fsAfter, m.databasesAfter
	}
	t.Logf("%d lives, %d crashes, %d batches", lives, crashes, len(h.sent))
	require.NotZero(t, crashes)
	for _, d := range databases {
		for id, first := range h.acked {
			got, there := d.batches[id]
			require.True(t, there, "batch %v was acked at LSN %d and is missing in %s", id, first, d.name)
			require.Equal(t, first, got.first, "batch %v in %s", id, d.name)
			require.Equal(t, uint64(h.sent[id]), got.last-got.first+1)
		}
		require.Len(t, d.batches, len(h.sent), "in the end everything sent was acknowledged")
		require.Equal(t, databases[0].batches, d.batches)
		for id, b := range d.batches {
			if before, there := d.batches[batchID{id.producer, id.sequence - 1}]; there {
				require.Less(t, before.last, b.first, "order of producer %d at %d", id.producer, id.sequence)
			}
		}
	}
	return crashes
}
