package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/replay"
	"github.com/ingestor-project/ingestor/loadgen/runner"
	"github.com/ingestor-project/ingestor/results"
	"github.com/ingestor-project/ingestor/scenarios"
)

const loadHelp = `Put load on a server that runs already, and print how it answered.

With --rate the loop is open: batches are due by the clock, whether or not earlier ones were answered, and the response time
counts from when a batch was due. Without, it is closed: each stream sends as fast as its bound on unanswered batches allows.

With --ledger everything sent and acked is written to a file, with which bench verify judges what is stored.

Exit codes:
  0    every batch was acked
  99   batches were refused, not answered, not sent in time, or acked at a lower level than asked for, or the load could not go on
  104  bad flags, a bad recording, or no server at the address
  105  interrupted`

// loadFlags are the flags of bench load that are not fields of the engine's config.
type loadFlags struct {
	apiKey, tenant, tlsCA, ackLevel, ledger, arrivals string
	useTLS, insecure                                  bool
	endpoints                                         int
	rate                                              float64
	duration, warmUp                                  time.Duration
	records                                           uint64
	method, layout, client                            string
	replay                                            replay.Options
	timeScale                                         float64
}

func newLoad() *cobra.Command {
	var flags loadFlags
	var config engine.Config
	command := &cobra.Command{
		Use:   "load",
		Short: "Put load on a server that runs already",
		Long:  loadHelp,
		Example: `  bench load --addr 127.0.0.1:9090 --api-key ik_... --tenant acme --rate 50000 --duration 10s
  bench load --addr 127.0.0.1:9090 --api-key ik_... --tenant acme --method unary --batch 1 --streams 64
  bench load --addr 127.0.0.1:9090 --api-key ik_... --tenant acme --replay host.csv --timestamp-column ts`,
		Args:    cobra.NoArgs,
		PreRunE: func(command *cobra.Command, _ []string) error { return checkReplay(command.Flags()) },
		RunE:    func(command *cobra.Command, _ []string) error { return load(command.Context(), config, flags) },
	}
	f := command.Flags()
	f.StringVar(&config.Target, "addr", "127.0.0.1:9090", "host:port of the server's gRPC port")
	f.StringVar(&flags.apiKey, "api-key", "", "API key or JWT (default: $INGESTOR_API_KEY)")
	f.StringVar(&flags.tenant, "tenant", "dev", "tenant of the credential; the ledger needs it")
	f.BoolVar(&flags.useTLS, "tls", false, "use TLS with the system's certificate authorities")
	f.StringVar(&flags.tlsCA, "tls-ca", "", "use TLS and trust the certificate authorities in this PEM file")
	f.BoolVar(&flags.insecure, "insecure", false, "with TLS: do not check the server's certificate")

	f.StringVar(&flags.method, "method", string(engine.Stream), "stream, unary or metrics")
	f.StringVar(&flags.layout, "layout", string(engine.Rows), "rows or columns")
	f.StringVar(&flags.client, "client", string(engine.Prepared), "prepared (encoded beforehand) or live (marshalled each time)")
	f.StringVar(&flags.ackLevel, "ack-level", "", "buffered, wal_synced or committed (default: the service's)")
	f.IntVar(&config.Connections, "connections", 1, "connections")
	f.IntVar(&config.Streams, "streams", 1, "streams, or unary callers, of each connection")
	f.IntVar(&config.InFlight, "in-flight", 4, "unanswered batches of a stream, at most 128")
	f.IntVar(&config.BatchRecords, "batch", 1000, "records in a batch")
	f.IntVar(&flags.endpoints, "endpoints", 1, "endpoints to spread over")
	f.Float64Var(&config.Skew, "skew", 0, "Zipf exponent over the endpoints; 0 spreads evenly")
	f.Uint64Var(&config.Seed, "seed", 0, "seed of arrivals, keys and content")

	f.Float64Var(&flags.rate, "rate", 0, "records per second of the open loop; 0 is the closed loop")
	f.StringVar(&flags.arrivals, "arrivals", string(engine.Uniform), "uniform or poisson")
	f.DurationVar(&flags.duration, "duration", 10*time.Second, "length of the measured load; 0 with --records: until those are sent")
	f.DurationVar(&flags.warmUp, "warm-up", 0, "load before, which is left out of all figures")
	f.Uint64Var(&flags.records, "records", 0, "end after so many records")

	f.IntVar(&config.Spec.PayloadBytes, "payload-bytes", 0, "mean size of a payload (default 110)")
	f.IntVar(&config.Spec.PayloadSpreadBytes, "payload-spread-bytes", 0, "sizes vary evenly by this much")
	f.Float64Var(&config.Spec.Compressibility, "compressibility", 0, "share of a payload that repeats a phrase, 0 to 1")
	f.IntVar(&config.Spec.Attributes, "attributes", 0, "attributes of each record, at most 10")

	f.StringVar(&flags.replay.Path, "replay", "", "send this CSV, NDJSON or Parquet file instead of synthetic records")
	f.StringVar(&flags.replay.TimestampColumn, "timestamp-column", "", "column of the recording that holds the time; required with --replay")
	f.StringVar(&flags.replay.EndpointColumn, "endpoint-column", "", "column of the recording that names the endpoint")
	f.StringVar(&flags.replay.Endpoint, "endpoint", "", "endpoint of all rows of a recording without an endpoint column (default replay)")
	f.Float64Var(&flags.timeScale, "time-scale", 1, "2 plays a recording twice as fast as it was recorded; --rate plays it evenly instead")
	f.StringVar(&flags.ledger, "ledger", "", "write what was sent and acked to this new file")
	command.MarkFlagsMutuallyExclusive("rate", "time-scale")
	return command
}

// Flags that mean something only without a recording, and only with one.
var (
	withoutReplay = []string{"duration", "records", "warm-up", "arrivals", "client", "endpoints", "skew", "seed",
		"payload-bytes", "payload-spread-bytes", "compressibility", "attributes"}
	withReplay = []string{"timestamp-column", "endpoint-column", "endpoint", "time-scale"}
)

// checkReplay refuses flags that would have no effect.
func checkReplay(f *pflag.FlagSet) error {
	names, reason := withReplay, "has a meaning only with --replay"
	if f.Changed("replay") {
		names, reason = withoutReplay, "has no meaning with --replay: a recording is played once, to its end, with its own records and endpoints"
	}
	for _, name := range names {
		if f.Changed(name) {
			return fmt.Errorf("--%s %s", name, reason)
		}
	}
	return nil
}

func load(ctx context.Context, config engine.Config, flags loadFlags) (err error) {
	if err := flags.complete(&config); err != nil {
		return err
	}
	header := config.LedgerHeader()
	if flags.replay.Path != "" {
		if header, err = runner.Replay(&config, flags.replay, flags.pace()); err != nil {
			return err
		}
	}
	if err := config.Validate(); err != nil {
		return err
	}
	// The engine waits for a server that is away. Here a wrong address is likelier.
	probe, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", config.Target)
	if err != nil {
		return fmt.Errorf("no server at %s: %w", config.Target, err)
	}
	_ = probe.Close()
	if flags.ledger != "" {
		writer, err := ledger.Create(flags.ledger, header)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, writer.Close()) }()
		config.Ledger = writer
	}
	console := runner.NewConsole(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())), nil)
	console.Expect(flags.warmUp + flags.duration)
	config.Progress = console.Tick
	result, runErr := engine.Run(ctx, config)
	console.Clear()
	if result == nil {
		return runErr
	}
	if err := writeLoadResult(os.Stdout, result); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return &exitError{code: results.ExitInterrupted}
	case runErr != nil:
		return &exitError{results.ExitFail, runErr}
	case failedBatches(&result.Measured) > 0:
		return &exitError{code: results.ExitFail}
	}
	return checkAckLevel(result)
}

// checkAckLevel refuses acks that promise less than was asked for, such as those of a server that stores nothing.
func checkAckLevel(result *engine.Result) error {
	if below := result.Measured.AckedAt.Below(result.Config.AckLevel); below.Batches > 0 {
		return &exitError{results.ExitFail, fmt.Errorf("%d batches were acked at a lower level than %s, which was asked for",
			below.Batches, engine.LevelName(result.Config.AckLevel))}
	}
	return nil
}

// complete turns flags into the engine's terms.
func (f *loadFlags) complete(config *engine.Config) error {
	config.Method, config.Layout, config.Client = engine.Method(f.method), engine.Layout(f.layout), engine.Client(f.client)
	if f.ackLevel == "" {
		f.ackLevel = scenarios.DefaultAckLevel(config.Method)
	}
	level, ok := scenarios.AckLevel(f.ackLevel)
	if !ok {
		return fmt.Errorf("--ack-level: unknown level %q", f.ackLevel)
	}
	config.AckLevel = level
	if f.apiKey == "" { // not the flag's default, which --help would print
		f.apiKey = os.Getenv("INGESTOR_API_KEY")
	}
	if f.replay.Path != "" && f.replay.TimestampColumn == "" {
		return errors.New("--replay needs --timestamp-column: the column of the recording that holds the time")
	}
	config.Tenants = []engine.Tenant{{ID: f.tenant, APIKey: f.apiKey}}
	for i := range f.endpoints {
		config.Endpoints = append(config.Endpoints, fmt.Sprintf("endpoint-%03d", i))
	}
	config.Spec.Seed = config.Seed
	// crypto/rand.Read never fails.
	_, _ = rand.Read(config.RunID[:])
	if f.warmUp > 0 {
		config.Phases = append(config.Phases, engine.Phase{
			Name: "warm-up", Duration: f.warmUp, RecordsPerSecond: f.rate, Arrivals: engine.Arrivals(f.arrivals), Warmup: true,
		})
	}
	config.Phases = append(config.Phases, engine.Phase{
		Name: "measured", Duration: f.duration, Records: f.records, RecordsPerSecond: f.rate, Arrivals: engine.Arrivals(f.arrivals),
	})
	return f.completeTLS(config)
}

// pace of a recording: an even rate where one is given, else its own.
func (f *loadFlags) pace() replay.Pace {
	if f.rate > 0 {
		return replay.Pace{RecordsPerSecond: f.rate}
	}
	return replay.Pace{TimeScale: f.timeScale}
}

func (f *loadFlags) completeTLS(config *engine.Config) error {
	if !f.useTLS && f.tlsCA == "" {
		if f.insecure {
			return errors.New("--insecure has a meaning only with --tls or --tls-ca")
		}
		return nil
	}
	config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.insecure}
	if f.tlsCA == "" {
		return nil
	}
	content, err := os.ReadFile(f.tlsCA)
	if err != nil {
		return err
	}
	config.TLS.RootCAs = x509.NewCertPool()
	if !config.TLS.RootCAs.AppendCertsFromPEM(content) {
		return fmt.Errorf("%s: no certificate in PEM form", f.tlsCA)
	}
	return nil
}

func failedBatches(m *engine.PhaseResult) uint64 {
	failed := m.Unknown.Batches + m.Unsent.Batches
	for _, count := range m.Refused {
		failed += count.Batches
	}
	return failed
}

// writeLoadResult prints rates and the latency table of the measured phase. The ack level is the one that the acks carried.
func writeLoadResult(w io.Writer, result *engine.Result) error {
	m := &result.Measured
	ackLevel := m.AckedAt.String()
	if asked := engine.LevelName(result.Config.AckLevel); ackLevel != asked {
		ackLevel += ", asked for " + asked
	}
	fmt.Fprintf(w, "acked      %s over %s, %d records in %d batches, ack level %s\n",
		results.FormatValue(m.AckedRecordsPerSecond, "records/s"), m.Duration.Round(time.Millisecond),
		m.AckedWithin.Records, m.AckedWithin.Batches, ackLevel)
	fmt.Fprintf(w, "wire       %s/s of requests\n", results.FormatValue(float64(m.WireBytes)/m.Duration.Seconds(), "bytes"))
	fmt.Fprintf(w, "resent     %d batches, acked as duplicates %d\n", m.Resent.Batches, m.Duplicates.Batches)
	for _, code := range slices.Sorted(maps.Keys(m.Refused)) {
		fmt.Fprintf(w, "refused    %d batches: %s\n", m.Refused[code].Batches, code)
	}
	if m.Unknown.Batches+m.Unsent.Batches > 0 {
		fmt.Fprintf(w, "unsettled  %d batches without an answer, %d not sent in time\n", m.Unknown.Batches, m.Unsent.Batches)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nLATENCY\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, row := range []struct {
		name string
		h    *hdrhistogram.Histogram
	}{{"response (from due)", m.Response}, {"service (from send)", m.Service}, {"schedule lag", m.Lag}} {
		fmt.Fprintf(table, "%s\t", row.name)
		for _, quantile := range []float64{50, 90, 99, 99.9, 100} {
			fmt.Fprintf(table, "%s\t", results.FormatValue(float64(row.h.ValueAtQuantile(quantile)), "ns"))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
