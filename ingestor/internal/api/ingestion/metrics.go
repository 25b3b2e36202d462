package ingestion

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

type metrics struct {
	receivedBytes prometheus.Counter
	refused       *prometheus.CounterVec
	streams       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		receivedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestor_api_received_bytes_total",
			Help: "Size of the write requests received, refused ones included.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_api_batches_refused_total",
			Help: "Batches refused, by storage.ErrorCode.",
		}, []string{"code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestor_api_streams",
			Help: "Write streams that are open.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.receivedBytes, m.refused, m.streams)
	}
	return m
}

func (m *metrics) countRefusal(code refusal.Code) {
	m.refused.WithLabelValues(storagepb.ErrorCode(code).String()).Inc()
}
