package processor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer         prometheus.Registerer
	flushedRecords     *prometheus.CounterVec
	replayedRecords    *prometheus.CounterVec
	failures           *prometheus.CounterVec
	failing            *prometheus.GaugeVec
	flushSeconds       *prometheus.HistogramVec
	checkpointSeconds  prometheus.Histogram
	checkpointFailures prometheus.Counter
	snapshotBytes      prometheus.Gauge
}

// sinkMetrics are the metrics of one sink. Conservation, at every moment: durable LSN = flushed LSN + pending
// records, as LSNs count records.
type sinkMetrics struct {
	flushedRecords  prometheus.Counter
	replayedRecords prometheus.Counter
	failures        prometheus.Counter
	failing         prometheus.Gauge
	flushSeconds    prometheus.Observer
}

func newMetrics(p *Processor, registerer prometheus.Registerer) *metrics {
	sink := []string{"sink"}
	m := &metrics{
		registerer: registerer,
		flushedRecords: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_sink_flushed_records_total", Help: "Records that the sink has stored since start-up.",
		}, sink),
		replayedRecords: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_sink_replayed_records_total",
			Help: "Records read back from the log because they were not in memory any more.",
		}, sink),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_sink_failures_total", Help: "Failed attempts of the sink.",
		}, sink),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestor_sink_failing", Help: "1 while the sink's last attempt has failed.",
		}, sink),
		flushSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ingestor_sink_flush_duration_seconds", Help: "Duration of successful flushes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}, sink),
		checkpointSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ingestor_checkpoint_duration_seconds", Help: "Duration of dedupe snapshot and manifest commit.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		checkpointFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestor_checkpoint_failures_total", Help: "Checkpoints that failed.",
		}),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestor_dedupe_snapshot_bytes", Help: "Size of the last dedupe snapshot.",
		}),
	}
	if registerer == nil {
		return m
	}
	registerer.MustRegister(m.flushedRecords, m.replayedRecords, m.failures, m.failing, m.flushSeconds,
		m.checkpointSeconds, m.checkpointFailures, m.snapshotBytes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ingestor_low_watermark_lsn", Help: "Position up to which all sinks have flushed.",
		}, func() float64 { return float64(p.LowWatermark()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ingestor_processor_paused", Help: "1 where the sinks were paused at start-up.",
		}, func() float64 {
			if p.config.Paused {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ingestor_sealed_bytes", Help: "Memory held by sealed generations.",
		}, func() float64 { held, _ := p.backlog.held(); return float64(held) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "ingestor_sealed_dropped_generations_total",
			Help: "Generations that left memory before all sinks had flushed them.",
		}, func() float64 { _, dropped := p.backlog.held(); return float64(dropped) }))
	return m
}

func (m *metrics) forSink(w *worker) *sinkMetrics {
	name := w.sink.Name()
	if m.registerer != nil {
		labels := prometheus.Labels{"sink": name}
		m.registerer.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_sink_flushed_lsn", Help: "The sink's checkpoint.", ConstLabels: labels,
			}, func() float64 { return float64(w.flushedLSN()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "ingestor_sink_pending_records", ConstLabels: labels,
				Help: "Records that are durable in the log and not in the sink.",
			}, func() float64 { return float64(w.pending(w.flushedLSN())) }))
	}
	return &sinkMetrics{
		flushedRecords:  m.flushedRecords.WithLabelValues(name),
		replayedRecords: m.replayedRecords.WithLabelValues(name),
		failures:        m.failures.WithLabelValues(name),
		failing:         m.failing.WithLabelValues(name),
		flushSeconds:    m.flushSeconds.WithLabelValues(name),
	}
}

func (m *sinkMetrics) flushed(d time.Duration, records uint64) {
	m.flushSeconds.Observe(d.Seconds())
	m.flushedRecords.Add(float64(records))
}
