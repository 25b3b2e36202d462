package serverproc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// adminTimeout bounds one request to the admin port.
const adminTimeout = 10 * time.Second

// Stages fetches the server's stage histograms by stage name. Values are nanoseconds.
func (s *Server) Stages(ctx context.Context) (map[string]*hdrhistogram.Histogram, error) {
	return FetchStages(ctx, s.AdminAddress())
}

// FetchStages is Stages for a server that something else started.
func FetchStages(ctx context.Context, adminAddress string) (map[string]*hdrhistogram.Histogram, error) {
	body, err := request(ctx, http.MethodGet, adminAddress, "/debug/stages", http.StatusOK)
	if err != nil {
		return nil, err
	}
	var page struct {
		Stages map[string]struct {
			Unit  string `json:"unit"`
			HDRV2 string `json:"hdr_v2"`
		} `json:"stages"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("stage histograms: %w", err)
	}
	stages := make(map[string]*hdrhistogram.Histogram, len(page.Stages))
	for name, stage := range page.Stages {
		if stage.Unit != "ns" {
			return nil, fmt.Errorf("stage %s has unit %q, want ns", name, stage.Unit)
		}
		histogram, err := hdrhistogram.Decode([]byte(stage.HDRV2))
		if err != nil {
			return nil, fmt.Errorf("histogram of stage %s: %w", name, err)
		}
		stages[name] = histogram
	}
	return stages, nil
}

// ResetStages empties the stage histograms, so that the next Stages covers what comes after.
func (s *Server) ResetStages(ctx context.Context) error {
	_, err := request(ctx, http.MethodPost, s.AdminAddress(), "/debug/stages/reset", http.StatusNoContent)
	return err
}

// Metrics scrapes the Prometheus page: metric families by name.
func (s *Server) Metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	page, err := request(ctx, http.MethodGet, s.AdminAddress(), "/metrics", http.StatusOK)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return nil, fmt.Errorf("metrics page: %w", err)
	}
	return families, nil
}

// SumMetric adds up the values of all series of one family; histograms and summaries count their sum. The second result
// is false where there is no such family.
func SumMetric(families map[string]*dto.MetricFamily, name string) (float64, bool) {
	family, ok := families[name]
	if !ok {
		return 0, false
	}
	sum := 0.0
	for _, m := range family.GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() +
			m.GetHistogram().GetSampleSum() + m.GetSummary().GetSampleSum()
	}
	return sum, true
}

// request returns the body of one exchange with the admin port, which must answer with the status want.
func request(ctx context.Context, method, address, path string, want int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	url := "http://" + address + path
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return body, nil
}
