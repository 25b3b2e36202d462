package metrics

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	"github.com/ingestor-project/ingestor/ingestor/internal/services/metrics"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
)

// Bounds that proto/metrics/v1/metrics.proto promises.
const (
	maxNameBytes = 255
	maxUnitBytes = 63
)

// validator checks requests and collects their metrics.
type validator struct {
	config  Config
	tenant  string
	now     time.Time
	metrics []metrics.Metric
}

// requests checks everything that one call holds. A metric that is to blame is named by its index over all requests.
func (v *validator) requests(requests []*metricspb.LogMetricsRequest) *refusal.Error {
	count := 0
	for _, r := range requests {
		count += len(r.GetMetrics())
	}
	if len(requests) == 0 {
		return refusal.New(refusal.EmptyBatch, "requests", "the batch holds no requests")
	}
	if count > v.config.MaxMetrics {
		return refusal.New(refusal.TooLarge, "metrics", "%d metrics in one call; the server takes %d", count, v.config.MaxMetrics)
	}
	v.metrics = make([]metrics.Metric, 0, count)
	for _, r := range requests {
		if e := v.request(r); e != nil {
			return e
		}
	}
	return nil
}

func (v *validator) request(r *metricspb.LogMetricsRequest) *refusal.Error {
	if e := checkText("service", r.GetService(), 1, maxNameBytes); e != nil {
		return e
	}
	if e := checkText("instance", r.GetInstance(), 0, maxNameBytes); e != nil {
		return e
	}
	if len(r.GetMetrics()) == 0 {
		return refusal.New(refusal.EmptyBatch, "metrics", "the request of service %q holds no metrics", r.GetService())
	}
	for _, m := range r.GetMetrics() {
		metric, e := v.metric(m)
		if e != nil {
			e.RecordIndex = len(v.metrics)
			return e
		}
		metric.Service, metric.Instance = r.GetService(), r.GetInstance()
		v.metrics = append(v.metrics, metric)
	}
	return nil
}

func (v *validator) metric(m *metricspb.Metric) (metrics.Metric, *refusal.Error) {
	result := metrics.Metric{
		Tenant: v.tenant, Name: m.GetName(), TimeUnixNano: m.GetTimestampUnixNano(), Unit: m.GetUnit(), Value: m.GetValue(),
	}
	if e := checkText("name", m.GetName(), 1, maxNameBytes); e != nil {
		return result, e
	}
	if e := checkText("unit", m.GetUnit(), 0, maxUnitBytes); e != nil {
		return result, e
	}
	if math.IsNaN(m.GetValue()) {
		return result, refusal.New(refusal.InvalidField, "value", "the value is not a number")
	}
	switch latest := v.now.Add(v.config.MaxFuture); {
	case result.TimeUnixNano == 0:
		result.TimeUnixNano = v.now.UnixNano()
	case result.TimeUnixNano < 0:
		return result, refusal.New(refusal.InvalidField, "timestamp_unix_nano", "the timestamp lies before 1970")
	case result.TimeUnixNano > latest.UnixNano():
		return result, refusal.New(refusal.InvalidField, "timestamp_unix_nano",
			"the timestamp lies more than %v ahead of the server's clock", v.config.MaxFuture)
	}
	switch m.GetType() {
	case metricspb.MetricType_METRIC_TYPE_UNSPECIFIED, metricspb.MetricType_METRIC_TYPE_GAUGE:
		result.Type = timescale.Gauge
	case metricspb.MetricType_METRIC_TYPE_COUNTER:
		result.Type = timescale.Counter
	default:
		return result, refusal.New(refusal.InvalidField, "type", "metric type %d is not known", m.GetType())
	}
	var e *refusal.Error
	result.Labels, e = labels(m.GetLabels())
	return result, e
}

// labels returns the labels as a JSON object with sorted keys; nil for none.
func labels(values map[string]string) ([]byte, *refusal.Error) {
	if len(values) == 0 {
		return nil, nil
	}
	for key, value := range values {
		if key == "" {
			return nil, refusal.New(refusal.InvalidField, "labels", "a label has an empty key")
		}
		if strings.IndexByte(key, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
			return nil, refusal.New(refusal.InvalidField, "labels", "a label holds a NUL character")
		}
	}
	object, err := json.Marshal(values)
	if err != nil {
		return nil, refusal.New(refusal.InvalidField, "labels", "%v", err)
	}
	return object, nil
}

// checkText checks a field's length. PostgreSQL cannot store a NUL character as text. gRPC has checked that it is
// UTF-8.
func checkText(field, value string, minBytes, maxBytes int) *refusal.Error {
	switch {
	case value == "" && minBytes > 0:
		return refusal.New(refusal.MissingField, field, "%s is missing", field)
	case len(value) > maxBytes:
		return refusal.New(refusal.InvalidField, field, "%s has %d bytes, at most %d are allowed", field, len(value), maxBytes)
	case strings.IndexByte(value, 0) >= 0:
		return refusal.New(refusal.InvalidField, field, "%s holds a NUL character", field)
	}
	return nil
}
