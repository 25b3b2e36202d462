package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

// capture runs the command line and returns its exit code and standard output.
func capture(t *testing.T, args ...string) (code int, stdout string) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	read := make(chan string, 1)
	go func() {
		content, _ := io.ReadAll(r)
		read <- string(content)
	}()
	saved := os.Stdout
	os.Stdout = w
	code = run(args)
	os.Stdout = saved
	require.NoError(t, w.Close())
	return code, <-read
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usageError{errors.New("x")}, 2},
		{errors.Join(errors.New("x"), ingestor.ErrRefused), 3}, {errors.Join(ingestor.ErrPoisoned), 4},
		{errors.Join(ingestor.ErrSink), 5},
	} {
		require.Equal(t, c.want, exitCode(c.err))
	}
	code, _ := capture(t, "serve", "--no-such-flag")
	require.Equal(t, 2, code)
	for _, words := range [][]string{{"servee"}, {"wal", "verfiy", "x"}, {"wal", "verify"}, {"keys", "generate"}, {"version", "x"}, {"null-sink", "--answer=no"}} {
		code, _ = capture(t, words...)
		require.Equal(t, 2, code, words)
	}
	for _, words := range [][]string{{}, {"wal"}, {"keys"}, {"wal", "verify", "--help"}} {
		code, _ = capture(t, words...)
		require.Equal(t, 0, code, words)
	}
	code, _ = capture(t, "config", "check", "--auth.keys_file=k", "--wal.direct_io=perhaps")
	require.Equal(t, 2, code)
	code, _ = capture(t, "config", "check", "--auth.keys_file=missing")
	require.Equal(t, 2, code)
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(keys, []byte("keys: []"), 0o600))
	code, out := capture(t, "config", "check", "--auth.keys_file="+keys, "--timescale.dsn=postgres://u:hunter2@h/d")
	require.Equal(t, 0, code)
	require.NotContains(t, out, "hunter2")
	code, out = capture(t, "version")
	require.Equal(t, 0, code)
	require.Equal(t, version+"\n", out)
}

func TestMistakesOfAllSourcesAreReportedTogether(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte("wal:\n  no_such_key: 1\n"), 0o600))
	t.Setenv("INGESTOR_METRICS_SHARDS", "many")
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags := addConfigFlags(set)
	require.NoError(t, set.Parse([]string{"--config", file, "--drain.timeout=soon", "--log.format=xml"}))
	_, err := flags.load()
	for _, want := range []string{"no_such_key", "INGESTOR_METRICS_SHARDS", "--drain.timeout", "log.format", "auth"} {
		require.ErrorContains(t, err, want)
	}
}

func TestKeysGenerateGivesAnEntryThatTheServerTakes(t *testing.T) {
	code, entry := capture(t, "keys", "generate", "--tenant", "acme", "--endpoints", "orders,clicks-*")
	require.Equal(t, 0, code)
	path := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(path, []byte(entry), 0o600))
	config := ingestor.DefaultConfig()
	config.DataDir, config.Auth.KeysFile = t.TempDir(), path
	config.Listen = ingestor.ListenConfig{GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	config.WAL.SpareSegments = 0
	server, err := ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, server.Run(ctx, nil))
}

// writeLog makes a log of three groups of ten records.
func writeLog(t *testing.T) (dir, segment string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "wal")
	w, err := wal.Open(t.Context(), wal.Options{Dir: dir, FS: vfs.OS, SegmentSizeBytes: 1 << 20, MaxGroupBytes: 256 << 10, SpareSegments: -1})
	require.NoError(t, err)
	for i := range 3 {
		_, err := w.Append(wal.Entry{Records: 10, Parts: [2][]byte{[]byte("envelope"), bytes.Repeat([]byte{byte('a' + i)}, 1000)}})
		require.NoError(t, err)
		require.NoError(t, w.Sync())
	}
	require.NoError(t, w.Close())
	return dir, filepath.Join(dir, "0000000000000001.wal")
}

func TestWALCommandsSayWhatIsThereAndWhatIsLost(t *testing.T) {
	dir, segment := writeLog(t)
	code, out := capture(t, "wal", "verify", dir)
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "LSN 1 to 30")
	require.Contains(t, out, "sound")
	code, out = capture(t, "wal", "inspect", dir)
	require.Equal(t, 0, code)
	require.Contains(t, out, "records, LSN 11, 10 records")

	content, err := os.ReadFile(segment)
	require.NoError(t, err)
	middle := bytes.Index(content, bytes.Repeat([]byte("b"), 1000))
	require.Positive(t, middle)
	content[middle+500] ^= 1
	require.NoError(t, os.WriteFile(segment, content, 0o644))
	code, _ = capture(t, "wal", "verify", dir)
	require.Equal(t, exitRefused, code)

	code, out = capture(t, "wal", "repair", dir)
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "lost: LSN 11 to 20")
	require.Contains(t, out, "kept: 2 batches with 20 records, the last one with LSN 30")
	code, out = capture(t, "wal", "verify", dir)
	require.Equal(t, 0, code, out)
}

func TestWALCommandsDoNotCallSoundWhatIsNoLog(t *testing.T) {
	dir := t.TempDir()
	for _, command := range []string{"verify", "inspect"} {
		code, out := capture(t, "wal", command, dir)
		require.Equal(t, exitUsage, code)
		require.NotContains(t, out, "sound")
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "wal"), 0o755))
	for _, command := range []string{"verify", "inspect", "repair"} {
		code, out := capture(t, "wal", command, dir)
		require.Equal(t, exitUsage, code)
		require.NotContains(t, out, "sound")
	}
}

func TestWALCommandsKeepOffARunningServer(t *testing.T) {
	code, entry := capture(t, "keys", "generate", "--tenant", "acme")
	require.Equal(t, 0, code)
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	require.NoError(t, os.WriteFile(keys, []byte(entry), 0o600))
	config := ingestor.DefaultConfig()
	config.DataDir, config.Auth.KeysFile = t.TempDir(), keys
	config.Listen = ingestor.ListenConfig{GRPC: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	config.WAL.SpareSegments = 0
	server, err := ingestor.New(t.Context(), config, "test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	code, _ = capture(t, "wal", "verify", filepath.Join(config.DataDir, "wal"))
	require.Equal(t, exitError, code)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, server.Run(ctx, nil))
	code, _ = capture(t, "wal", "verify", filepath.Join(config.DataDir, "wal"))
	require.Equal(t, exitOK, code)
}
