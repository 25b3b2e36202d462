package around_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/crashtest/clockjump"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
	"github.com/ingestor-project/ingestor/internal/pgtest"
	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
)

const (
	wrapArgument = "wrap-clock"
	day          = 24 * time.Hour
)

// wrapClock makes the test's own binary the command that starts a server with a clock that jumps.
func wrapClock() {
	if len(os.Args) < 4 || os.Args[1] != wrapArgument {
		return
	}
	offset, err := time.ParseDuration(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	clockjump.Run(offset, os.Args[3:])
}

// clockAhead is the command that starts a server with its clock ahead.
func clockAhead(t *testing.T, offset time.Duration) []string {
	t.Helper()
	if !clockjump.Supported {
		t.Skip("clocks jump on amd64 only")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	return []string{self, wrapArgument, offset.String()}
}

// TestTheClockJumps lets the server's wall clock jump under load, to hours and weeks before and after the true time, sometimes across a kill -9.
// Nothing may wait for the clock or hurry because of it: batches are acked and both sinks go on after each jump.
func TestTheClockJumps(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "clock jumps", "jumps", packagePath)
	dsn := pgtest.Database(t)
	config := withDatabase(dsn)
	// Clients' timestamps are true, and so lie as far in the future as the server's clock is behind. The config's own limit is tested below.
	config["ingest"].(map[string]any)["max_future"] = "2400h"
	c := start(t, run, dsn, serverproc.Options{Config: config, Wrap: clockAhead(t, 0)})
	offsets := []time.Duration{time.Hour, -time.Hour, 26 * time.Hour, -26 * time.Hour, 40 * day, -40 * day, 0}
	c.rounds(run, crashlevel.Pick(t, 4, 14, 700), c.alone, func(i int) error {
		offset := offsets[c.Rng.IntN(len(offsets))]
		if i%4 == 3 {
			if err := c.AwaitAcks(uint64(1 + c.Rng.IntN(40))); err != nil {
				return err
			}
			if err := c.kill(t.Context()); err != nil {
				return err
			}
			c.SetWrap(clockAhead(t, offset))
			if err := c.Restart(t.Context()); err != nil {
				return fmt.Errorf("start with the clock ahead by %s: %w", offset, err)
			}
		} else if err := clockjump.Shift(c.PID(), offset); err != nil {
			return err
		}
		if err := c.AwaitAcks(20); err != nil {
			return fmt.Errorf("with the clock ahead by %s: %w", offset, err)
		}
		for _, sink := range []string{"parquet", database} {
			if err := c.awaitFlush(t.Context(), sink); err != nil {
				return fmt.Errorf("%s with the clock ahead by %s: %w", sink, offset, err)
			}
		}
		return checkpointFits(t.Context(), dsn)
	})
}

// awaitFlush returns when a sink has flushed what comes in after the call.
func (c *campaign) awaitFlush(ctx context.Context, sink string) error {
	flushed, pending, err := c.position(ctx, sink)
	if err != nil {
		return err
	}
	return c.Await(func() (bool, error) {
		now, _, err := c.position(ctx, sink)
		return now > flushed+pending, err
	})
}

const (
	issuer   = "the-test"
	audience = "ingestor"
)

// sendOne sends one batch with a credential and returns how it was answered: "" for an ack, or the name of the refusal.
func (c *campaign) sendOne(credential string) (refusal string) {
	c.t.Helper()
	config := engine.Config{
		Tenants: []engine.Tenant{{ID: "alpha", APIKey: credential}}, Endpoints: []string{"orders"}, Method: engine.Unary,
		Layout: engine.Rows, Client: engine.Live, BatchRecords: 10, Epoch: 1, RetryFor: time.Minute, FirstProducer: len(c.ownLedgers),
		Phases: []engine.Phase{{Name: "one batch", Records: 10}},
	}
	config.Target, _ = c.Campaign.Target()
	for i := range config.RunID {
		config.RunID[i] = byte(c.Rng.Uint32())
	}
	path := filepath.Join(c.t.TempDir(), "one.ledger")
	writer, err := ledger.Create(path, config.LedgerHeader())
	require.NoError(c.t, err)
	c.ownLedgers = append(c.ownLedgers, path)
	config.Ledger = writer
	result, err := engine.Run(c.t.Context(), config)
	require.NoError(c.t, err)
	require.NoError(c.t, writer.Close())
	require.Empty(c.t, result.LaneErrors)
	require.EqualValues(c.t, 1, result.Measured.Sent.Batches)
	for name := range result.Measured.Refused {
		return name
	}
	require.EqualValues(c.t, 1, result.Measured.Acked.Batches)
	return ""
}

// TestCredentialsAndTimestampsFollowTheClock: what is bound to the wall clock by its meaning follows it at once, in both directions, and no
// refused batch is stored.
func TestCredentialsAndTimestampsFollowTheClock(t *testing.T) {
	t.Parallel()
	run := crashlevel.Start(t, "clock jumps", "jumps", packagePath)
	secret := []byte("a secret of the test, 32 bytes long at least")
	dir := diskDir(t)
	secretFile := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secretFile, secret, 0o600))
	c := start(t, run, "", serverproc.Options{
		Config: map[string]any{
			"auth": map[string]any{"jwt": map[string]any{
				"algorithms": []string{"HS256"}, "hmac_secret_file": secretFile, "issuer": issuer, "audience": audience,
			}},
			"ingest": map[string]any{"max_future": "24h"},
		},
		Wrap: clockAhead(t, 0),
	})
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": "client", "tenant": "alpha", "endpoints": []string{"*"},
		"nbf": now.Add(-time.Hour).Unix(), "exp": now.Add(2 * time.Hour).Unix(),
	}).SignedString(secret)
	require.NoError(t, err)
	_, tenants := c.Campaign.Target()
	apiKey := tenants[0].APIKey

	const refusedToken, refusedTime = "Unauthenticated", "INVALID_FIELD"
	for _, step := range []struct {
		offset     time.Duration
		token, key string
	}{
		{0, "", ""},
		{3 * time.Hour, refusedToken, ""}, // expired
		{time.Hour, "", ""},
		{-2 * time.Hour, refusedToken, ""}, // not valid yet
		{0, "", ""},
		{40 * day, refusedToken, ""},
		{-20 * time.Hour, refusedToken, ""},
		{-26 * time.Hour, refusedToken, refusedTime}, // clients are more than max_future ahead
		{0, "", ""},
	} {
		require.NoError(t, clockjump.Shift(c.PID(), step.offset))
		require.Equal(t, step.key, c.sendOne(apiKey), "API key, clock ahead by %s", step.offset)
		require.Equal(t, step.token, c.sendOne(token), "JWT, clock ahead by %s", step.offset)
		run.Explored(1)
	}
	require.NoError(t, c.Drain(t.Context()))
	report, err := verify.Parquet(t.Context(), c.DataDir(), c.ownLedgers...)
	require.NoError(t, err)
	t.Log(report)
	require.True(t, report.OK(), "%s\n%+v", report, report.Examples)
	require.Positive(t, report.Acked)
	require.Positive(t, report.Refused)
}
