package kafka

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/ingestor-project/ingestor/ingestor/internal/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "ingestor-events"

var (
	newData   = Stage{Kind: events.NewData}
	toParquet = Stage{Kind: events.Flushed, Sink: "parquet"}
	committed = Stage{Kind: events.Committed}
)

// server stands for the parts that move positions.
type server struct {
	mu  sync.Mutex
	at  map[Stage]uint64
	bus *events.Bus
}

func newServer(t *testing.T) *server {
	s := &server{at: make(map[Stage]uint64), bus: events.NewBus()}
	t.Cleanup(s.bus.Close)
	return s
}

func (s *server) positions() []Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Position
	for _, stage := range []Stage{newData, toParquet, committed} {
		list = append(list, Position{stage, s.at[stage]})
	}
	return list
}

// reach moves a stage and tells the bus, as the server does.
func (s *server) reach(stage Stage, lsn uint64) {
	s.mu.Lock()
	first := s.at[stage] + 1
	s.at[stage] = lsn
	s.mu.Unlock()
	s.bus.Publish(events.Event{Kind: stage.Kind, Sink: stage.Sink, First: first, Last: lsn})
}

func (s *server) start(t *testing.T, config Config) *Publisher {
	p, err := Start(config, Dependencies{
		LogID: "0123abcd", Positions: s.positions, Events: s.bus,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return p
}

func startCluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, Config) {
	cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1), kfake.SeedTopics(3, topic))...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, Config{Brokers: cluster.ListenAddrs(), Topic: topic, Interval: time.Millisecond}
}

// consumer reads the topic as an outside program would.
func consumer(t *testing.T, config Config, opts ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(config.Brokers...), kgo.ConsumeTopics(topic))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

// take reads messages until each stage in want has come as far as it says, and checks that the ranges of each stage join.
func take(t *testing.T, client *kgo.Client, ends, want map[Stage]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !reached(ends, want) {
		fetches := client.PollFetches(ctx)
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			var m Message
			require.NoError(t, json.Unmarshal(r.Value, &m))
			require.Equal(t, "0123abcd", m.Log)
			require.Equal(t, m.Log, string(r.Key))
			for stage := range want {
				if m.Kind != stage.Kind.String() || m.Sink != stage.Sink {
					continue
				}
				if m.FirstLSN != 1 { // a start begins anew
					require.Equal(t, ends[stage]+1, m.FirstLSN)
				}
				require.GreaterOrEqual(t, m.LastLSN, ends[stage])
				ends[stage] = m.LastLSN
			}
		})
	}
}

func reached(ends, want map[Stage]uint64) bool {
	for stage, lsn := range want {
		if ends[stage] < lsn {
			return false
		}
	}
	return true
}

func TestPositionsAreAnnouncedInOrderWithoutGaps(t *testing.T) {
	_, config := startCluster(t)
	s := newServer(t)
	s.reach(newData, 10)
	p := s.start(t, config)
	client, ends := consumer(t, config), map[Stage]uint64{}
	take(t, client, ends, map[Stage]uint64{newData: 10})
	for lsn := uint64(11); lsn <= 500; lsn++ {
		s.reach(newData, lsn)
		s.reach(toParquet, lsn/2)
	}
	s.reach(committed, 250)
	take(t, client, ends, map[Stage]uint64{newData: 500, toParquet: 250, committed: 250})

	// What comes last is announced by Close, and a new life begins at 1.
	s.reach(newData, 501)
	p.Close(t.Context())
	take(t, client, ends, map[Stage]uint64{newData: 501})
	p = s.start(t, config)
	s.reach(newData, 502)
	take(t, client, ends, map[Stage]uint64{newData: 502})
	p.Close(t.Context())
}

func TestNothingIsLostWhileBrokersRefuse(t *testing.T) {
	cluster, config := startCluster(t)
	var mu sync.Mutex
	refusing, refused := true, make(chan struct{}, 1)
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if !refusing {
			return nil, nil, false
		}
		cluster.KeepControl()
		select {
		case refused <- struct{}{}:
		default:
		}
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition = t.Partitions[0].Partition
			partition.ErrorCode = kerr.TopicAuthorizationFailed.Code
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			answer.Partitions = append(answer.Partitions, partition)
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	s := newServer(t)
	s.reach(newData, 1)
	p := s.start(t, config)
	<-refused
	for lsn := uint64(2); lsn <= 100; lsn++ {
		s.reach(newData, lsn)
	}
	require.Eventually(t, func() bool { return testutil.ToFloat64(p.failing) == 1 }, 20*time.Second, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(p.messages))
	mu.Lock()
	refusing = false
	mu.Unlock()
	take(t, consumer(t, config), map[Stage]uint64{}, map[Stage]uint64{newData: 100})
	require.Eventually(t, func() bool { return testutil.ToFloat64(p.failing) == 0 }, 20*time.Second, time.Millisecond)
	p.Close(t.Context())
}

// A cluster that is away holds up neither a start nor a stop.
func TestAbsentBrokersHoldUpNothing(t *testing.T) {
	s := newServer(t)
	s.reach(newData, 5)
	p := s.start(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: topic, Interval: time.Millisecond})
	s.reach(newData, 6)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Close(ctx)
	require.Zero(t, testutil.ToFloat64(p.messages))
}

func TestSASLPasswordComesFromAFile(t *testing.T) {
	_, config := startCluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "ingestor", "generated"))
	config.SASL, config.User = "scram-sha-512", "ingestor"
	config.PasswordFile = filepath.Join(t.TempDir(), "password")
	require.ErrorContains(t, config.CheckFiles(), "password")
	require.NoError(t, os.WriteFile(config.PasswordFile, []byte("generated\n"), 0o600))
	require.NoError(t, config.CheckFiles())
	s := newServer(t)
	s.reach(newData, 7)
	p := s.start(t, config)
	client := consumer(t, config, kgo.SASL(config.mechanism("generated")))
	take(t, client, map[Stage]uint64{}, map[Stage]uint64{newData: 7})
	p.Close(t.Context())
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	off := Config{SASL: "nonsense"}
	require.NoError(t, off.Validate(), "without brokers nothing else counts")
	for problem, c := range map[string]Config{
		"topic":           {Brokers: []string{"a:1"}, Interval: 1},
		"interval":        {Brokers: []string{"a:1"}, Topic: "t"},
		"needs TLS":       {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, CAFile: "ca.pem"},
		"sends":           {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, SASL: "plain", User: "u", PasswordFile: "p"},
		"user":            {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, SASL: "scram-sha-256", TLS: true},
		"is none of":      {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, SASL: "gssapi"},
		"SASL mechanism":  {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, User: "u"},
		"password file":   {Brokers: []string{"a:1"}, Topic: "t", Interval: 1, SASL: "scram-sha-256", User: "u"},
		"must be positiv": {Brokers: []string{"a:1"}, Topic: "t", Interval: -1},
	} {
		require.ErrorContains(t, c.Validate(), problem)
	}
}
