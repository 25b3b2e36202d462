package timescale

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5"
)

const (
	copyMetrics = `COPY ingestor.metrics (ts, ts_unix_nano, tenant_id, service, instance, name, type, unit, value, labels)
		FROM STDIN (FORMAT binary)`
	metricFields = 10
)

// MetricType says how values of a metric combine. Its values equal those of metrics.v1.MetricType.
type MetricType int16

// The types of metrics.
const (
	Gauge   MetricType = 1
	Counter MetricType = 2
)

// Metric is one measured value.
type Metric struct {
	Tenant, Service, Instance string
	Name                      string
	TimeUnixNano              int64
	Type                      MetricType
	Unit                      string
	Value                     float64
	// Labels is a JSON object; nil for none.
	Labels []byte
}

// MetricRepository writes metrics. It belongs to one goroutine at a time and keeps its buffer between calls.
type MetricRepository struct{ stream copyStream }

// NewMetricRepository returns a repository.
func NewMetricRepository() *MetricRepository { return &MetricRepository{} }

// Copy writes metrics within tx. Those that the server refuses for their content go to dead_letters.
func (r *MetricRepository) Copy(ctx context.Context, tx pgx.Tx, metrics []Metric) (Written, error) {
	return writeIsolating(ctx, tx, &metricSet{repository: r, metrics: metrics}, 0, len(metrics))
}

type metricSet struct {
	repository *MetricRepository
	metrics    []Metric
}

func (s *metricSet) copyRange(ctx context.Context, tx pgx.Tx, lo, hi int) error {
	return s.repository.stream.run(ctx, tx, copyMetrics, &metricSource{metrics: s.metrics[lo:hi]}, hi-lo)
}

// deadMetric is the body of a metric's dead letter.
type deadMetric struct {
	TenantID          string          `json:"tenant_id"`
	Service           string          `json:"service"`
	Instance          string          `json:"instance"`
	Name              string          `json:"name"`
	TimestampUnixNano int64           `json:"timestamp_unix_nano"`
	Type              MetricType      `json:"type"`
	Unit              string          `json:"unit"`
	Value             string          `json:"value"` // a string, because JSON has no infinity
	Labels            json.RawMessage `json:"labels,omitempty"`
}

func (s *metricSet) bury(ctx context.Context, tx pgx.Tx, i int, reason string) error {
	m := &s.metrics[i]
	body, err := json.Marshal(deadMetric{
		TenantID: m.Tenant, Service: m.Service, Instance: m.Instance, Name: m.Name, TimestampUnixNano: m.TimeUnixNano,
		Type: m.Type, Unit: m.Unit, Value: strconv.FormatFloat(m.Value, 'g', -1, 64), Labels: m.Labels,
	})
	if err != nil {
		return fmt.Errorf("timescale: dead letter of a metric: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO ingestor.dead_letters (source, reason, tenant_id, body) VALUES ('metrics', $1, $2, $3)`,
		reason, []byte(m.Tenant), body)
	return err
}

// metricSource gives a COPY its metrics.
type metricSource struct{ metrics []Metric }

func (s *metricSource) appendRow(dst []byte) ([]byte, error) {
	if len(s.metrics) == 0 {
		return dst, io.EOF
	}
	m := &s.metrics[0]
	s.metrics = s.metrics[1:]
	dst = appendFieldCount(dst, metricFields)
	dst = appendTime(dst, m.TimeUnixNano)
	dst = appendInt64(dst, m.TimeUnixNano)
	dst = appendBytes(dst, m.Tenant)
	dst = appendBytes(dst, m.Service)
	dst = appendBytes(dst, m.Instance)
	dst = appendBytes(dst, m.Name)
	dst = appendInt16(dst, int16(m.Type))
	dst = appendBytes(dst, m.Unit)
	dst = appendFloat64(dst, m.Value)
	return appendJSONB(dst, m.Labels), nil
}
