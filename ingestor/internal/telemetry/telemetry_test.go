package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, stages *telemetry.Stages, ready telemetry.Probe) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestor_example_total"})
	registry.MustRegister(counter)
	counter.Add(3)
	admin, err := telemetry.StartAdmin("127.0.0.1:0", registry, stages, func() error { return nil }, ready, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, admin.Close(context.Background()))
	})
	return "http://" + admin.Address()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(body)
}

func TestStagesAreServedMergeableAndReset(t *testing.T) {
	stages := telemetry.NewStages()
	for i := 1; i <= 100; i++ {
		stages.Observe(telemetry.Commit, time.Duration(i)*time.Microsecond)
	}
	stages.Observe(telemetry.Fdatasync, -time.Second)
	stages.Observe(telemetry.Queue, time.Hour)
	base := start(t, stages, func() error { return nil })

	code, body := get(t, base+"/debug/stages")
	require.Equal(t, http.StatusOK, code)
	var got struct {
		Stages map[string]telemetry.StageReport
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Len(t, got.Stages, 7)
	commit := got.Stages["commit"]
	require.EqualValues(t, 100, commit.Count)
	require.InEpsilon(t, 50_000, commit.P50Nanos, 0.002)
	require.InEpsilon(t, 99_000, commit.P99Nanos, 0.002)
	require.EqualValues(t, 5_050_000, commit.SumNanos)
	decoded, err := hdrhistogram.Decode([]byte(commit.HDRV2))
	require.NoError(t, err)
	require.EqualValues(t, 100, decoded.TotalCount())
	require.InEpsilon(t, 99_000, decoded.ValueAtQuantile(99), 0.002)
	require.EqualValues(t, 1, got.Stages["fdatasync"].MaxNanos, "a clock that ran backwards counts as the least duration")
	require.InEpsilon(t, int64(100*time.Second), got.Stages["queue"].MaxNanos, 0.002)

	response, err := http.Post(base+"/debug/stages/reset", "", nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusNoContent, response.StatusCode)
	_, body = get(t, base+"/debug/stages")
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Zero(t, got.Stages["commit"].Count)
}

func TestProbesAndMetrics(t *testing.T) {
	var isReady atomic.Bool
	base := start(t, telemetry.NewStages(), func() error {
		if isReady.Load() {
			return nil
		}
		return errors.New("replaying the log")
	})
	code, _ := get(t, base+"/-/healthy")
	require.Equal(t, http.StatusOK, code)
	code, body := get(t, base+"/-/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "replaying the log")
	isReady.Store(true)
	code, _ = get(t, base+"/-/ready")
	require.Equal(t, http.StatusOK, code)
	_, body = get(t, base+"/metrics")
	require.Contains(t, body, "ingestor_example_total 3")
	code, _ = get(t, base+"/debug/pprof/cmdline")
	require.Equal(t, http.StatusOK, code)
}
