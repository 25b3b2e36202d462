package ingestion

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
)

var levelNames = [...]string{Buffered: "buffered", WALSynced: "wal_synced", Committed: "committed"}

var codeNames = [...]string{
	refusal.TooLarge: "too_large", refusal.ProducerFenced: "producer_fenced",
	refusal.SequenceOutOfOrder: "sequence_out_of_order", refusal.Overloaded: "overloaded", refusal.NoSpace: "no_space",
	refusal.OutcomeUnknown: "outcome_unknown", refusal.Unavailable: "unavailable",
}

// metrics holds one resolved counter for each label value, so that counting a batch needs no lookup.
type metrics struct {
	ackedBatches [len(levelNames)]prometheus.Counter
	ackedRecords [len(levelNames)]prometheus.Counter
	duplicates   prometheus.Counter
	refusals     [len(codeNames)]prometheus.Counter
	bufferedLost prometheus.Counter

	storedRecords prometheus.Counter
	storedBytes   prometheus.Counter
	groupBatches  prometheus.Histogram
	noSpace       prometheus.Counter
	poisoned      prometheus.Gauge
	producers     prometheus.Gauge
	forgotten     prometheus.Gauge
	generations   prometheus.Counter
	earlySeals    prometheus.Counter
	memtableBytes prometheus.Gauge
}

func newMetrics(s *Service, registerer prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		duplicates: counter("ingestor_ingest_duplicate_batches_total",
			"Acknowledged batches that had been stored before."),
		bufferedLost: counter("ingestor_ingest_buffered_lost_records_total",
			"Records acknowledged at level BUFFERED that could not be stored afterwards."),
		storedRecords: counter("ingestor_ingest_stored_records_total",
			"Records made durable in the log, each one counted once."),
		storedBytes: counter("ingestor_ingest_stored_bytes_total",
			"Bytes of encoded requests made durable in the log."),
		groupBatches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ingestor_ingest_group_batches", Help: "Batches made durable by one sync.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		noSpace: counter("ingestor_ingest_no_space_groups_total",
			"Groups that were refused because the disk had no room for the log."),
		poisoned: gauge("ingestor_ingest_poisoned", "1 after the log has failed, 0 before."),
		producers: gauge("ingestor_dedupe_producers",
			"Producers whose batches are recognised when sent again."),
		forgotten: gauge("ingestor_dedupe_forgotten_producers",
			"Producers forgotten since start-up because there were more than the configured number."),
		generations: counter("ingestor_memtable_generations_total", "Generations sealed."),
		earlySeals: counter("ingestor_memtable_early_seals_total",
			"Generations sealed before they were full because memory was short."),
		memtableBytes: gauge("ingestor_memtable_mutable_bytes", "Memory held by the mutable memtables."),
	}
	ackedBatches := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_ingest_acked_batches_total", Help: "Batches acknowledged, duplicates included.",
	}, []string{"level"})
	ackedRecords := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_ingest_acked_records_total", Help: "Records acknowledged, duplicates included.",
	}, []string{"level"})
	for level := Buffered; level <= Committed; level++ {
		m.ackedBatches[level] = ackedBatches.WithLabelValues(levelNames[level])
		m.ackedRecords[level] = ackedRecords.WithLabelValues(levelNames[level])
	}
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_ingest_refused_batches_total", Help: "Batches refused by the commit path, by reason.",
	}, []string{"code"})
	for code, name := range codeNames {
		if name != "" {
			m.refusals[code] = refusals.WithLabelValues(name)
		}
	}
	if registerer != nil {
		registerer.MustRegister(ackedBatches, ackedRecords, refusals, m.duplicates, m.bufferedLost, m.storedRecords,
			m.storedBytes, m.groupBatches, m.noSpace, m.poisoned, m.producers, m.forgotten, m.generations, m.earlySeals,
			m.memtableBytes,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_ingest_queue_batches", Help: "Batches waiting for the committer.",
			}, func() float64 { return float64(s.queue.state().batches) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_ingest_queue_reserved_bytes",
				Help: "Room in the commit queue that is reserved by batches which wait, or are copied and checked.",
			}, func() float64 { return float64(s.queue.state().reservedBytes) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_ingest_queue_tenants", Help: "Tenants that have something in the commit queue or wait for room.",
			}, func() float64 { return float64(s.queue.state().tenants) }),
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "ingestor_ingest_admission_waits_total",
				Help: "Batches that waited because their tenant's share of the commit queue was in use.",
			}, func() float64 { return float64(s.queue.state().waits) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_ingest_committed_waiters", Help: "Durable batches waiting for the sinks to commit.",
			}, func() float64 { return float64(s.waiters.len()) }))
	}
	return m
}

func (m *metrics) acked(s *Submission) {
	m.ackedBatches[s.Level].Inc()
	m.ackedRecords[s.Level].Add(float64(s.AckedRecords))
	if s.Duplicate {
		m.duplicates.Inc()
	}
}

func (m *metrics) refused(code refusal.Code) { m.refusals[code].Inc() }

// committed counts a group that is durable and inserted, with requests of bytes in sum.
func (m *metrics) committed(c *committer, batches int, records uint64, bytes int) {
	m.groupBatches.Observe(float64(batches))
	m.storedRecords.Add(float64(records))
	m.storedBytes.Add(float64(bytes))
	m.producers.Set(float64(c.table.Producers()))
	m.forgotten.Set(float64(c.table.Forgotten()))
	m.memtableBytes.Set(float64(c.set.Bytes()))
}
