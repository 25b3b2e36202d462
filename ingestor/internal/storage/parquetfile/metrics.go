package parquetfile

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
)

type metrics struct {
	files, rows, bytes prometheus.Counter
	flushSeconds       prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) (metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "ingestor", Subsystem: "parquet", Name: name, Help: help})
	}
	m := metrics{
		files: counter("files_total", "Parquet files committed."),
		rows:  counter("rows_total", "Rows in Parquet files committed."),
		bytes: counter("bytes_total", "Bytes in Parquet files committed."),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "ingestor", Subsystem: "parquet", Name: "flush_seconds",
			Help:    "Time to write, read back and commit one generation.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}),
	}
	return m, errors.Join(registerer.Register(m.files), registerer.Register(m.rows), registerer.Register(m.bytes),
		registerer.Register(m.flushSeconds))
}

func (m *metrics) count(files []manifest.File) {
	for i := range files {
		m.files.Inc()
		m.rows.Add(float64(files[i].Rows))
		m.bytes.Add(float64(files[i].Bytes))
	}
}
