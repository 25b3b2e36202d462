package serverproc

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// buildServer builds the real server.
func buildServer(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "ingestion-server")
	output, err := exec.Command("go", "build", "-o", binary, "github.com/ingestor-project/ingestor/ingestor/cmd/ingestion-server").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

func startReal(t *testing.T, options Options) *Server {
	t.Helper()
	server, err := Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// write sends one batch of records and returns the ack.
func write(t *testing.T, server *Server, records int) *storagepb.Ack {
	t.Helper()
	conn, err := grpc.NewClient(server.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	request := &storagepb.WriteBatchRequest{EndpointId: "orders", AckLevel: storagepb.AckLevel_ACK_LEVEL_WAL_SYNCED}
	for i := range records {
		request.Records = append(request.Records, &storagepb.DataRecord{
			EventId: append(make([]byte, 15), byte(i)), TimestampUnixNano: 1_700_000_000_000_000_000, Payload: []byte("{}"),
		})
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+server.Key(defaultTenant))
	response, err := storagepb.NewIngestionServiceClient(conn).WriteBatch(ctx, request, grpc.WaitForReady(true))
	require.NoError(t, err)
	return response.GetAck()
}

func requireDrained(t *testing.T, server *Server) {
	t.Helper()
	status, err := server.Terminate(t.Context())
	require.NoError(t, err)
	require.Equal(t, ExitStatus{Code: 0}, status, server.LogTail())
}

func TestServersThatStoreNothing(t *testing.T) {
	binary := buildServer(t)
	for _, c := range []struct {
		command           Command
		ackRecords, acked uint32
	}{{NullSink, 0, 3}, {EmptyHandler, 0, 1}, {EmptyHandler, 50, 50}} {
		server := startReal(t, Options{Binary: binary, Dir: t.TempDir(), Command: c.command, AckRecords: c.ackRecords})
		ack := write(t, server, 3)
		require.Equal(t, storagepb.AckLevel_ACK_LEVEL_BUFFERED, ack.GetLevel())
		require.Equal(t, c.acked, ack.GetRecordCount())
		stages, err := server.Stages(t.Context())
		require.NoError(t, err)
		require.Contains(t, stages, "ack")
		requireDrained(t, server)
		require.NoDirExists(t, server.DataDir())
	}
}

func TestRestartWithAnotherConfig(t *testing.T) {
	server := startReal(t, Options{
		Binary: buildServer(t), Dir: t.TempDir(), Config: map[string]any{"processor": map[string]any{"paused": true}},
	})
	files := func() []string {
		files, err := filepath.Glob(filepath.Join(server.DataDir(), "parquet", "*", "*", "*", "*", "*.parquet"))
		require.NoError(t, err)
		return files
	}
	require.EqualValues(t, 3, write(t, server, 3).GetLastLsn())
	requireDrained(t, server)
	require.Empty(t, files())
	require.NoError(t, server.Restart(t.Context()), "on the same config")
	require.EqualValues(t, 6, write(t, server, 3).GetLastLsn())
	_, err := server.Kill()
	require.NoError(t, err)
	require.Empty(t, files())

	require.NoError(t, server.RestartWith(t.Context(), nil))
	requireDrained(t, server)
	require.NotEmpty(t, files())
}
