package retention

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCutoffs(t *testing.T) {
	tenants, err := ParseTenants([]string{"acme=1h", "a=b=30m", "archive=0s"})
	require.NoError(t, err)
	require.Equal(t, map[string]time.Duration{"acme": time.Hour, "a=b": 30 * time.Minute, "archive": 0}, tenants)
	now := time.Unix(1_000_000, 0)
	at := func(ago time.Duration) *time.Time { cutoff := now.Add(-ago); return &cutoff }

	all := Policy{Default: 24 * time.Hour, Tenants: tenants}.At(now)
	require.Equal(t, at(time.Hour), all.Of("acme"))
	require.Equal(t, at(30*time.Minute), all.Of("a=b"))
	require.Nil(t, all.Of("archive"))
	require.Equal(t, at(24*time.Hour), all.Of("anyone"))
	require.Nil(t, all.Earliest(), "archive keeps everything")

	delete(tenants, "archive")
	require.Equal(t, at(24*time.Hour), Policy{Default: 24 * time.Hour, Tenants: tenants}.At(now).Earliest())
	require.Equal(t, at(time.Hour), Policy{Default: time.Minute, Tenants: tenants}.At(now).Earliest())
	require.Nil(t, Policy{Tenants: tenants}.At(now).Earliest(), "those not named keep everything")

	require.False(t, Policy{}.Enabled())
	require.False(t, Policy{Tenants: map[string]time.Duration{"archive": 0}}.Enabled())
	require.True(t, Policy{Tenants: tenants}.Enabled())
	require.True(t, Policy{Default: 1}.Enabled())
}

func TestParseTenantsRefuses(t *testing.T) {
	for _, words := range [][]string{{"acme"}, {"=1h"}, {"acme="}, {"acme=-1h"}, {"acme=30d"}, {"acme=1h", "acme=2h"}} {
		_, err := ParseTenants(words)
		require.Error(t, err, words)
	}
}

// store answers as the test says, call by call, then with nothing to remove.
type store struct {
	mu      sync.Mutex
	answers []error
	calls   int
	called  chan struct{}
}

func (s *store) Name() string { return "store" }

func (s *store) Expire(context.Context, Cutoffs) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	select {
	case s.called <- struct{}{}:
	default:
	}
	if s.calls > len(s.answers) {
		return 0, nil
	}
	return 10, s.answers[s.calls-1]
}

type fatal struct{ error }

func (fatal) Fatal() bool { return true }

func TestRunnerTriesAgainAndStopsAtFatalErrors(t *testing.T) {
	s := &store{answers: []error{errors.New("the database is away"), nil, fatal{errors.New("poisoned")}}, called: make(chan struct{}, 100)}
	idle := &store{called: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	r, err := Start(Options{
		Rules:    []Rule{{idle, Policy{}}, {s, Policy{Default: time.Hour}}},
		Interval: time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer: prometheus.NewRegistry(), OnFatal: func(err error) { ended <- err },
	})
	require.NoError(t, err)
	require.ErrorContains(t, <-ended, "poisoned")
	r.Close()
	require.Equal(t, 3, s.calls)
	require.Zero(t, idle.calls, "nothing to remove, nothing to ask")
	require.Equal(t, 30.0, testutil.ToFloat64(r.removed))
	require.Equal(t, 2.0, testutil.ToFloat64(r.failures))
}
