package wal

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the log's figures for Prometheus.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector

	fsyncs  prometheus.Counter
	groups  prometheus.Counter
	records prometheus.Counter
	bytes   prometheus.Counter
}

// newMetrics registers the metrics of a WAL that is open; nothing is registered where r is nil.
func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		registerer: r,
		fsyncs:     counter("ingestor_wal_fsync_total", "Calls of fsync and fdatasync for the log and its directory."),
		groups:     counter("ingestor_wal_groups_total", "Groups made durable, markers included."),
		records:    counter("ingestor_wal_records_total", "Records made durable."),
		bytes:      counter("ingestor_wal_written_bytes_total", "Bytes of groups written, padding included."),
	}
}

// register makes the metrics visible; the gauges read the WAL when they are collected.
func (m *metrics) register(w *WAL) error {
	if m.registerer == nil {
		return nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	collectors := []prometheus.Collector{
		m.fsyncs, m.groups, m.records, m.bytes,
		gauge("ingestor_wal_size_bytes", "Size of all segments on disk, spares not counted.",
			func() float64 { return float64(w.SizeBytes()) }),
		gauge("ingestor_wal_segments", "Segments on disk, spares not counted.",
			func() float64 { return float64(w.segmentCount()) }),
		gauge("ingestor_wal_spare_segments", "Files ready to become segments.",
			func() float64 { return float64(w.spares.count()) }),
		gauge("ingestor_wal_durable_lsn", "Highest LSN that is durable.",
			func() float64 { return float64(w.DurableLSN()) }),
		gauge("ingestor_wal_poisoned", "1 once a write or sync has failed.",
			func() float64 {
				if w.poisoned.Load() != nil {
					return 1
				}
				return 0
			}),
	}
	for _, c := range collectors {
		if err := m.registerer.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("wal: register metrics: %w", err)
		}
		m.collectors = append(m.collectors, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
	m.collectors = nil
}

func (m *metrics) wrote(s *GroupStats) {
	m.groups.Inc()
	m.records.Add(float64(s.Records))
	m.bytes.Add(float64(s.Bytes))
}
