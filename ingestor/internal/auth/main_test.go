package auth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a settable time. Safe for concurrent use.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is an Authenticator with its clock, its registry and everything that it logged.
type fixture struct {
	*auth.Authenticator
	clock    *clock
	registry *prometheus.Registry
	log      *bytes.Buffer
}

func newFixture(t *testing.T, config auth.Config) *fixture {
	t.Helper()
	f := &fixture{
		clock:    &clock{now: time.Now().Truncate(time.Second)},
		registry: prometheus.NewRegistry(),
		log:      &bytes.Buffer{},
	}
	a, err := auth.New(t.Context(), auth.Options{
		Config:     config,
		Logger:     slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: f.registry,
		Now:        f.clock.Now,
	})
	require.NoError(t, err)
	t.Cleanup(a.Close)
	f.Authenticator = a
	return f
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// echo answers every batch with the principal that the handler saw: its subject and tenant, and whether it may write to the
// batch's endpoint.
type echo struct {
	storagepb.UnimplementedIngestionServiceServer
}

func (echo) answer(ctx context.Context, req *storagepb.WriteBatchRequest) *storagepb.WriteBatchResponse {
	p, ok := auth.FromContext(ctx)
	if !ok {
		return &storagepb.WriteBatchResponse{}
	}
	message := p.Tenant + "/" + p.Subject
	if !p.MayWrite(req.GetEndpointId()) {
		message += " forbidden"
	}
	return &storagepb.WriteBatchResponse{
		Outcome: &storagepb.WriteBatchResponse_Error{Error: &storagepb.BatchError{Message: message}},
	}
}

func (e echo) WriteBatch(ctx context.Context, req *storagepb.WriteBatchRequest) (*storagepb.WriteBatchResponse, error) {
	return e.answer(ctx, req), nil
}

func (e echo) WriteStream(stream storagepb.IngestionService_WriteStreamServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	return stream.Send(e.answer(stream.Context(), req))
}

// serve starts a gRPC server on the loopback and returns its address.
func serve(t *testing.T, a *auth.Authenticator) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.Creds(a.TransportCredentials()),
		grpc.UnaryInterceptor(a.Unary()), grpc.StreamInterceptor(a.Stream()))
	storagepb.RegisterIngestionServiceServer(server, echo{})
	healthpb.RegisterHealthServer(server, health.NewServer())
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		server.Stop()
		served.Wait()
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// signers holds one private key for each public-key algorithm, and a JWK set of their public halves.
type signers struct {
	keys map[string]crypto.Signer
	jwks string
}

func newSigners(t *testing.T) *signers {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	s := &signers{keys: map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey}}
	s.jwks = jwksOf(t, s.keys)
	return s
}

// jwksOf makes a JWK set in which each key's id is its algorithm.
func jwksOf(t *testing.T, keys map[string]crypto.Signer) string {
	t.Helper()
	var set jwkset.JWKSMarshal
	for algorithm, key := range keys {
		jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{
			Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(algorithm), KID: algorithm, USE: jwkset.UseSig},
		})
		require.NoError(t, err)
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	content, err := json.Marshal(set)
	require.NoError(t, err)
	return string(content)
}

// sign makes a token. kid is left out where empty.
func sign(t *testing.T, algorithm string, key any, kid string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), claims)
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(key)
	require.NoError(t, err)
	return signed
}
