package auth_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func keysYAML(id, tenant, hash, endpoints string) string {
	return fmt.Sprintf("keys:\n- id: %s\n  tenant: %s\n  sha256: %s\n  endpoints: %s\n", id, tenant, hash, endpoints)
}

func TestGenerateKey(t *testing.T) {
	a, hash := auth.GenerateKey()
	b, _ := auth.GenerateKey()
	require.NotEqual(t, a, b)
	require.Regexp(t, regexp.MustCompile(`^ik_[A-Za-z0-9_-]{43}$`), a)
	require.Equal(t, auth.HashKey(a), hash)
	require.Equal(t, "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0", auth.HashKey("aaa"))
}

func TestMayWrite(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		endpoint string
		may      bool
	}{
		{[]string{"orders"}, "orders", true},
		{[]string{"orders"}, "orders2", false},
		{[]string{"orders"}, "order", false},
		{[]string{"orders"}, "Orders", false},
		{[]string{"orders"}, "", false},
		{[]string{"sensor-*"}, "sensor-", true},
		{[]string{"sensor-*"}, "sensor-7", true},
		{[]string{"sensor-*"}, "sensor", false},
		{[]string{"a*", "orders"}, "orders", true},
		{[]string{"*"}, "anything", true},
		{[]string{"*"}, "", false},
		{nil, "orders", false},
	} {
		p, err := auth.NewPrincipal("acme", "dev", test.patterns)
		require.NoError(t, err)
		require.Equal(t, test.may, p.MayWrite(test.endpoint), "%v on %q", test.patterns, test.endpoint)
	}
}

func TestNewPrincipalRefuses(t *testing.T) {
	for _, test := range []struct {
		tenant   string
		patterns []string
	}{
		{"", []string{"*"}},
		{"\xff", []string{"*"}},
		{"ac\x00me", []string{"*"}},
		{strings.Repeat("t", 256), nil},
		{"acme", []string{""}},
		{"acme", []string{"a*b"}},
		{"acme", []string{"**"}},
		{"acme", []string{"\xff"}},
	} {
		_, err := auth.NewPrincipal(test.tenant, "dev", test.patterns)
		require.Error(t, err, "%q %q", test.tenant, test.patterns)
	}
}

func TestAPIKeyOverGRPC(t *testing.T) {
	acme, acmeHash := auth.GenerateKey()
	globex, globexHash := auth.GenerateKey()
	expiring, expiringHash := auth.GenerateKey()
	stranger, _ := auth.GenerateKey()
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	path := writeFile(t, "keys.yaml", keysYAML("dev", "acme", acmeHash, `["orders", "sensor-*"]`)+
		strings.TrimPrefix(keysYAML("other", "globex", strings.ToUpper(globexHash), `["*"]`), "keys:\n")+
		strings.TrimPrefix(keysYAML("old", "acme", expiringHash, `["*"]`), "keys:\n")+
		"  expires_at: "+expiry.Format(time.RFC3339)+"\n")
	f := newFixture(t, auth.Config{KeysFile: path})
	conn := dial(t, serve(t, f.Authenticator), nil)

	accepted := []struct{ authorization, endpoint, answer string }{
		{"Bearer " + acme, "orders", "acme/dev"},
		{"bearer " + acme, "sensor-1", "acme/dev"},
		{"Bearer " + acme, "users", "acme/dev forbidden"},
		{"Bearer " + globex, "users", "globex/other"},
		{"Bearer " + expiring, "orders", "acme/old"},
	}
	for _, test := range accepted {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", test.authorization)
		for form, call := range calls {
			answer, err := call(ctx, conn, test.endpoint)
			require.NoError(t, err, form)
			require.Equal(t, test.answer, answer, form)
		}
	}

	f.clock.Advance(2 * time.Hour)
	refused := []struct{ pairs []string }{
		{nil},
		{[]string{"authorization", ""}},
		{[]string{"authorization", acme}},
		{[]string{"authorization", "Basic " + acme}},
		{[]string{"authorization", "Bearer"}},
		{[]string{"authorization", "Bearer "}},
		{[]string{"authorization", "Bearer  " + acme}},
		{[]string{"authorization", "Bearer " + stranger}},
		{[]string{"authorization", "Bearer " + acme[:len(acme)-1]}},
		{[]string{"authorization", "Bearer " + acme + "x"}},
		{[]string{"authorization", "Bearer " + acmeHash}},
		{[]string{"authorization", "Bearer ik_" + strings.Repeat("x", 17<<10)}},
		{[]string{"authorization", "Bearer " + expiring}},
		{[]string{"authorization", "Bearer " + acme, "authorization", "Bearer " + globex}},
		{[]string{"x-api-key", acme}},
	}
	for i, test := range refused {
		ctx := metadata.AppendToOutgoingContext(t.Context(), test.pairs...)
		for form, call := range calls {
			_, err := call(ctx, conn, "orders")
			require.Equal(t, codes.Unauthenticated, status.Code(err), "%s %d", form, i)
			for _, key := range []string{acme, globex, expiring, stranger, acmeHash} {
				require.NotContains(t, err.Error(), key)
			}
		}
	}
	require.NotContains(t, f.log.String(), "ik_")

	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, health.Status)

	// Every refusal was counted once: two forms of each call.
	require.NoError(t, testutil.GatherAndCompare(f.registry, strings.NewReader(`
# HELP ingestor_auth_refused_total Calls refused for want of a good credential, by reason: missing, invalid, expired.
# TYPE ingestor_auth_refused_total counter
ingestor_auth_refused_total{reason="expired"} 2
ingestor_auth_refused_total{reason="invalid"} 22
ingestor_auth_refused_total{reason="missing"} 6
`)))
}

// calls are the two forms in which a batch reaches the server.
var calls = map[string]func(context.Context, *grpc.ClientConn, string) (string, error){
	"unary": func(ctx context.Context, conn *grpc.ClientConn, endpoint string) (string, error) {
		client := storagepb.NewIngestionServiceClient(conn)
		resp, err := client.WriteBatch(ctx, &storagepb.WriteBatchRequest{EndpointId: endpoint})
		return resp.GetError().GetMessage(), err
	},
	"stream": func(ctx context.Context, conn *grpc.ClientConn, endpoint string) (string, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := storagepb.NewIngestionServiceClient(conn).WriteStream(ctx)
		if err != nil {
			return "", err
		}
		// An error of Send is the end of the stream; Recv says why it ended.
		_ = stream.Send(&storagepb.WriteBatchRequest{EndpointId: endpoint})
		resp, err := stream.Recv()
		return resp.GetError().GetMessage(), err
	},
}

func TestReloadReplacesKeys(t *testing.T) {
	oldKey, oldHash := auth.GenerateKey()
	newKey, newHash := auth.GenerateKey()
	path := writeFile(t, "keys.yaml", keysYAML("old", "acme", oldHash, `["*"]`))
	f := newFixture(t, auth.Config{KeysFile: path})
	require.NoError(t, os.WriteFile(path, []byte(keysYAML("new", "acme", newHash, `["*"]`)), 0o600))

	_, err := f.Authenticate(t.Context(), "Bearer "+newKey)
	require.Error(t, err, "before Reload")
	require.NoError(t, f.Reload())
	p, err := f.Authenticate(t.Context(), "Bearer "+newKey)
	require.NoError(t, err)
	require.Equal(t, "new", p.Subject)
	_, err = f.Authenticate(t.Context(), "Bearer "+oldKey)
	require.Error(t, err)

	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, f.Reload(), os.ErrNotExist)
	_, err = f.Authenticate(t.Context(), "Bearer "+newKey)
	require.NoError(t, err)
}

func BenchmarkAPIKey(b *testing.B) {
	key, hash := auth.GenerateKey()
	path := b.TempDir() + "/keys.yaml"
	require.NoError(b, os.WriteFile(path, []byte(keysYAML("dev", "acme", hash, `["*"]`)), 0o600))
	a, err := auth.New(b.Context(), auth.Options{
		Config: auth.Config{KeysFile: path}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(b, err)
	defer a.Close()
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs("authorization", "Bearer "+key))
	interceptor := a.Unary()
	handler := func(context.Context, any) (any, error) { return nil, nil }
	info := &grpc.UnaryServerInfo{FullMethod: "/storage.IngestionService/WriteBatch"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := interceptor(ctx, nil, info, handler); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKeysFileRefused(t *testing.T) {
	key, hash := auth.GenerateKey()
	good := keysYAML("dev", "acme", hash, `["*"]`)
	for name, content := range map[string]string{
		"empty":             "",
		"no list":           "{}",
		"null list":         "keys:",
		"unknown key":       good + "other: 1\n",
		"unknown entry key": good + "  rights: all\n",
		"duplicate key":     good + "  tenant: globex\n",
		"key, not its hash": keysYAML("dev", "acme", key, `["*"]`),
		"short hash":        keysYAML("dev", "acme", hash[:62], `["*"]`),
		"no id":             keysYAML(`""`, "acme", hash, `["*"]`),
		"no tenant":         keysYAML("dev", `""`, hash, `["*"]`),
		"no endpoints":      keysYAML("dev", "acme", hash, `[]`),
		"bad pattern":       keysYAML("dev", "acme", hash, `["a*b"]`),
		"bad expiry":        good + "  expires_at: tomorrow\n",
		"id twice":          good + strings.TrimPrefix(keysYAML("dev", "acme", auth.HashKey("x"), `["*"]`), "keys:\n"),
		"hash twice":        good + strings.TrimPrefix(keysYAML("ops", "acme", hash, `["*"]`), "keys:\n"),
		"key in a comment":  good + "  unknown: 1 # " + key + "\n",
		"not YAML":          "keys: [" + key,
	} {
		t.Run(name, func(t *testing.T) {
			path := writeFile(t, "keys.yaml", good)
			f := newFixture(t, auth.Config{KeysFile: path})
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			err := f.Reload()
			require.Error(t, err)
			require.NotContains(t, err.Error(), key)
			require.NotContains(t, err.Error(), hash)
			// The old keys stay in force.
			p, err := f.Authenticate(t.Context(), "Bearer "+key)
			require.NoError(t, err)
			require.Equal(t, "acme", p.Tenant)
		})
	}
}
