package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/bojand/ghz/runner"
	"github.com/jhump/protoreflect/desc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// options are the command's flags.
type options struct {
	target         string
	apiKey         string
	endpoint       string
	ackLevel       string
	calls          uint
	callsPerSecond uint
	concurrency    uint
	connections    uint
	batchRecords   uint
	timeout        time.Duration
}

// figures are what the command prints. Latencies count from when ghz began a call.
type figures struct {
	Calls            uint64         `json:"calls"`
	RecordsPerSecond float64        `json:"records_per_second"`
	CallsPerSecond   float64        `json:"calls_per_second"`
	P50Nanos         int64          `json:"p50_ns"`
	P90Nanos         int64          `json:"p90_ns"`
	P99Nanos         int64          `json:"p99_ns"`
	MaxNanos         int64          `json:"max_ns"`
	ByStatus         map[string]int `json:"calls_by_status"`
}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(2)
	}
	f, err := run(&o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ghz:", err)
		os.Exit(1)
	}
}

func parse(arguments []string, output io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("ghz", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&o.target, "target", "", "address of the server, host:port")
	flags.StringVar(&o.apiKey, "api-key", os.Getenv("INGESTOR_API_KEY"), "API key; default: INGESTOR_API_KEY of the environment")
	flags.StringVar(&o.endpoint, "endpoint", "orders", "endpoint of all batches")
	flags.StringVar(&o.ackLevel, "ack-level", "WAL_SYNCED", "BUFFERED, WAL_SYNCED or COMMITTED")
	flags.UintVar(&o.calls, "calls", 5000, "number of calls")
	flags.UintVar(&o.callsPerSecond, "calls-per-second", 500, "rate of calls")
	flags.UintVar(&o.concurrency, "concurrency", 50, "number of ghz's workers")
	flags.UintVar(&o.connections, "connections", 1, "number of connections")
	flags.UintVar(&o.batchRecords, "batch-records", 100, "records in a batch")
	flags.DurationVar(&o.timeout, "timeout", 20*time.Second, "bound on one call")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if _, ok := storagepb.AckLevel_value["ACK_LEVEL_"+o.ackLevel]; !ok || o.target == "" || o.batchRecords == 0 {
		fmt.Fprintln(output, "ghz: --target, a known --ack-level and at least one record are needed")
		return o, flag.ErrHelp
	}
	return o, nil
}

func run(o *options) (*figures, error) {
	headers := map[string]string{}
	if o.apiKey != "" {
		headers["authorization"] = "Bearer " + o.apiKey
	}
	descriptors, err := protoset()
	if err != nil {
		return nil, err
	}
	report, err := runner.Run("storage.IngestionService.WriteBatch", o.target,
		runner.WithProtosetBinary(descriptors),
		runner.WithInsecure(true),
		runner.WithAsync(true),
		runner.WithTotalRequests(o.calls),
		runner.WithRPS(o.callsPerSecond),
		runner.WithConcurrency(o.concurrency),
		runner.WithConnections(o.connections),
		runner.WithTimeout(o.timeout),
		runner.WithMetadata(headers),
		runner.WithBinaryDataFunc(func(_ *desc.MethodDescriptor, call *runner.CallData) []byte {
			return request(o, uint64(call.RequestNumber))
		}),
	)
	if err != nil {
		return nil, err
	}
	return summarise(report, o.batchRecords), nil
}

// protoset describes the service to ghz.
func protoset() ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, file := range []protoreflect.FileDescriptor{storagepb.File_storage_common_proto, storagepb.File_storage_ingestion_proto} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	return proto.Marshal(set)
}

// summarise takes the percentiles of successful calls from ghz's samples.
func summarise(report *runner.Report, batchRecords uint) *figures {
	var latencies []time.Duration
	for _, detail := range report.Details {
		if detail.Error == "" {
			latencies = append(latencies, detail.Latency)
		}
	}
	slices.Sort(latencies)
	f := &figures{Calls: report.Count, CallsPerSecond: report.Rps, ByStatus: report.StatusCodeDist}
	if n := len(latencies); n > 0 {
		at := func(percent int) int64 { return int64(latencies[(n*percent+99)/100-1]) }
		f.P50Nanos, f.P90Nanos, f.P99Nanos, f.MaxNanos = at(50), at(90), at(99), at(100)
		f.RecordsPerSecond = float64(n) * float64(batchRecords) / report.Total.Seconds()
	}
	return f
}

// request encodes the batch of one call. It has no producer: concurrent calls have no order.
func request(o *options, number uint64) []byte {
	spec := record.Spec{}.WithDefaults()
	batch := record.Batch{Sequence: number + 1, UnixMilli: time.Now().UnixMilli(), Records: uint32(o.batchRecords)}
	r := &storagepb.WriteBatchRequest{
		BatchId: number, EndpointId: o.endpoint, AckLevel: storagepb.AckLevel(storagepb.AckLevel_value["ACK_LEVEL_"+o.ackLevel]),
	}
	for i := range batch.Records {
		var content record.Record
		spec.Fill(&content, batch, i)
		r.Records = append(r.Records, &storagepb.DataRecord{
			EventId: content.ID[:], TimestampUnixNano: content.TimestampUnixNano, Version: content.Version, Payload: content.Payload,
		})
	}
	wire, err := proto.Marshal(r)
	if err != nil {
		panic(err) // only of a message that breaks the rules of its own types
	}
	return wire
}
