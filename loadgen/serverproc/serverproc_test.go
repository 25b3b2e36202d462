package serverproc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// fakeMode, in the environment, turns the test binary into a small server: "serve", or "refuse" to end at once.
const fakeMode = "SERVERPROC_FAKE"

func TestMain(m *testing.M) {
	switch os.Getenv(fakeMode) {
	case "serve":
		os.Exit(fakeServer())
	case "refuse":
		fmt.Fprintln(os.Stderr, "segment 7 is corrupt")
		os.Exit(3)
	}
	// Idle HTTP connections to the admin port are the transport's, not ours.
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// fakeServer writes the address file, serves a histogram and a metric, and drains on SIGTERM with exit code 0.
func fakeServer() int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	config := flags.String("config", "", "")
	addressFile := flags.String("address-file", "", "")
	if flags.Parse(os.Args[2:]) != nil {
		return 2
	}
	content, err := os.ReadFile(*config)
	if err != nil {
		return 1
	}
	var settings struct {
		DataDir string                 `yaml:"data_dir"`
		Listen  struct{ Admin string } `yaml:"listen"`
	}
	if yaml.Unmarshal(content, &settings) != nil {
		return 1
	}
	listener, err := net.Listen("tcp", settings.Listen.Admin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	histogram := hdrhistogram.New(1, 1_000_000_000, 3)
	_ = histogram.RecordValue(500)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/stages", func(w http.ResponseWriter, _ *http.Request) {
		encoded, _ := histogram.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		fmt.Fprintf(w, `{"stages":{"commit":{"unit":"ns","hdr_v2":%q}}}`, encoded)
	})
	mux.HandleFunc("POST /debug/stages/reset", func(w http.ResponseWriter, _ *http.Request) {
		histogram.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE acked_total counter\nacked_total{tenant=\"a\"} 3\nacked_total{tenant=\"b\"} 4\n")
	})
	go func() { _ = http.Serve(listener, mux) }()

	fmt.Println("serving", settings.DataDir) // before the address file: who sees that may kill
	address := listener.Addr().String()
	line, _ := json.Marshal(map[string]any{"grpc": address, "admin": address, "pid": os.Getpid()})
	temporary := *addressFile + ".tmp"
	if os.WriteFile(temporary, line, 0o600) != nil || os.Rename(temporary, *addressFile) != nil {
		return 1
	}
	<-stop
	fmt.Println("drained")
	return 0
}

func fakeOptions(t *testing.T, mode string) Options {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	return Options{Binary: binary, Dir: t.TempDir(), Env: []string{fakeMode + "=" + mode}}
}

func startFake(t *testing.T, options Options) *Server {
	t.Helper()
	server, err := Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

func TestTerminateDrainsAndReturnsTheExitCode(t *testing.T) {
	server := startFake(t, fakeOptions(t, "serve"))
	require.True(t, server.Running())

	status, err := server.Terminate(t.Context())

	require.NoError(t, err)
	require.Equal(t, ExitStatus{Code: 0}, status)
	require.False(t, server.Running())
	require.Contains(t, server.LogTail(), "drained")
	_, err = server.Terminate(t.Context())
	require.ErrorIs(t, err, ErrNotRunning)
}

func TestKillThenRestartOnTheSamePortsAndData(t *testing.T) {
	server := startFake(t, fakeOptions(t, "serve"))
	address, firstPID := server.GRPCAddress(), server.PID()

	status, err := server.Kill()
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, status.Signal)

	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, address, server.GRPCAddress())
	require.NotEqual(t, firstPID, server.PID())
	log, err := os.ReadFile(server.LogPath())
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(log), "serving "+server.DataDir()), "both lives are in the log")
	require.Error(t, server.Restart(t.Context()), "a running server cannot be restarted")
}

func TestStartReportsAServerThatRefuses(t *testing.T) {
	_, err := Start(t.Context(), fakeOptions(t, "refuse"))

	var refused *StartError
	require.ErrorAs(t, err, &refused)
	require.True(t, refused.Exited)
	require.Equal(t, ExitStatus{Code: 3}, refused.Status)
	require.Contains(t, refused.LogTail, "segment 7 is corrupt")
}

func TestStartReportsAMissingBinary(t *testing.T) {
	_, err := Start(t.Context(), Options{Binary: filepath.Join(t.TempDir(), "absent"), Dir: t.TempDir()})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestTerminateKillsAServerThatDoesNotDrain(t *testing.T) {
	options := fakeOptions(t, "serve")
	server := startFake(t, options)
	// A stopped process does not act on SIGTERM.
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	status, err := server.Terminate(ctx)

	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, syscall.SIGKILL, status.Signal)
}

func TestKillThroughAWrappingCommand(t *testing.T) {
	options := fakeOptions(t, "serve")
	options.Wrap = []string{"/bin/sh", "-c", `"$@"; exit $?`, "wrap"}
	server := startFake(t, options)

	status, err := server.Kill()

	require.NoError(t, err)
	require.Equal(t, ExitStatus{Code: 128 + int(syscall.SIGKILL)}, status, "the shell reports its child's end")
}

func TestConfigAndKeysAreWritten(t *testing.T) {
	options := fakeOptions(t, "serve")
	options.Tenants = []string{"acme", "zeta"}
	options.Config = map[string]any{
		"wal":    map[string]any{"direct_io": "on"},
		"listen": map[string]any{"grpc": "127.0.0.1:7777"},
	}
	server := startFake(t, options)

	var config map[string]any
	content, err := os.ReadFile(server.ConfigPath())
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(content, &config))
	require.Equal(t, map[string]any{"direct_io": "on"}, config["wal"])
	require.Equal(t, map[string]any{"grpc": "127.0.0.1:7777", "admin": anyFreePort}, config["listen"])

	keysPath := server.options.keysPath()
	info, err := os.Stat(keysPath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	content, err = os.ReadFile(keysPath)
	require.NoError(t, err)
	for _, tenant := range options.Tenants {
		key := server.Key(tenant)
		secret, found := strings.CutPrefix(key, "ik_")
		require.True(t, found)
		decoded, err := base64.RawURLEncoding.DecodeString(secret)
		require.NoError(t, err)
		require.Len(t, decoded, 32)
		require.NotContains(t, string(content), key, "only the hash is stored")
	}
}

func TestStagesAndMetrics(t *testing.T) {
	server := startFake(t, fakeOptions(t, "serve"))

	stages, err := server.Stages(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stages["commit"].TotalCount())
	require.EqualValues(t, 500, stages["commit"].Max())

	require.NoError(t, server.ResetStages(t.Context()))
	stages, err = server.Stages(t.Context())
	require.NoError(t, err)
	require.Zero(t, stages["commit"].TotalCount())

	families, err := server.Metrics(t.Context())
	require.NoError(t, err)
	sum, found := SumMetric(families, "acked_total")
	require.True(t, found)
	require.Equal(t, 7.0, sum)
	_, found = SumMetric(families, "absent")
	require.False(t, found)
}

func TestUsageOfThisProcess(t *testing.T) {
	usage, err := ProcessUsage(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, usage.RSSBytes)
	require.GreaterOrEqual(t, usage.RSSPeakBytes, usage.RSSBytes)
}

func TestCPUTimeCountsFromTheLastParenthesis(t *testing.T) {
	line := "42 (a ) b) S 1 42 42 0 -1 4194560 0 0 0 0 150 50 0 0 20 0 1 0 0 0 0"
	got, err := cpuTime([]byte(line))
	require.NoError(t, err)
	require.EqualValues(t, 2_000_000_000, got)
	_, err = cpuTime([]byte("nonsense"))
	require.Error(t, err)
}
