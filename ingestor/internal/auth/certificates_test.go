package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
)

// authority signs certificates for one test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{certificate, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// issue returns a certificate and its key, in PEM.
func (a *authority) issue(t *testing.T, serial int64) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// clientCredentials trust a; they present a certificate issued by issuer, where one is given.
func (a *authority) clientCredentials(t *testing.T, issuer *authority) credentials.TransportCredentials {
	t.Helper()
	config := &tls.Config{RootCAs: a.pool(), MinVersion: tls.VersionTLS12}
	if issuer != nil {
		certificate, key := issuer.issue(t, 7)
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		require.NoError(t, err)
		// Presented whatever authorities the server asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return credentials.NewTLS(config)
}

func TestTLSAndMutualTLS(t *testing.T) {
	servers, clients, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	certificate, key := servers.issue(t, 2)
	apiKey, hash := auth.GenerateKey()
	config := auth.Config{
		KeysFile: writeFile(t, "keys.yaml", keysYAML("dev", "acme", hash, `["*"]`)),
		TLS:      auth.TLSConfig{CertFile: writeFile(t, "cert.pem", certificate), KeyFile: writeFile(t, "key.pem", key)},
	}
	mutual := config
	mutual.TLS.ClientCAFile = writeFile(t, "clients.pem", clients.pem)
	plain := newFixture(t, config)
	strict := newFixture(t, mutual)
	plainAddress, strictAddress := serve(t, plain.Authenticator), serve(t, strict.Authenticator)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+apiKey)

	for name, test := range map[string]struct {
		address string
		creds   credentials.TransportCredentials
		code    codes.Code
	}{
		"TLS":                                  {plainAddress, servers.clientCredentials(t, nil), codes.OK},
		"TLS, server not trusted":              {plainAddress, strangers.clientCredentials(t, nil), codes.Unavailable},
		"TLS, client without TLS":              {plainAddress, nil, codes.Unavailable},
		"mutual TLS":                           {strictAddress, servers.clientCredentials(t, clients), codes.OK},
		"mutual TLS, no certificate":           {strictAddress, servers.clientCredentials(t, nil), codes.Unavailable},
		"mutual TLS, stranger's certificate":   {strictAddress, servers.clientCredentials(t, strangers), codes.Unavailable},
		"TLS, client certificate not asked of": {plainAddress, servers.clientCredentials(t, strangers), codes.OK},
	} {
		answer, err := calls["unary"](ctx, dial(t, test.address, test.creds), "orders")
		require.Equal(t, test.code, status.Code(err), "%s: %v", name, err)
		if test.code == codes.OK {
			require.Equal(t, "acme/dev", answer, name)
		}
	}
	// A certificate does not replace the credential.
	_, err := calls["unary"](t.Context(), dial(t, strictAddress, servers.clientCredentials(t, clients)), "orders")
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestReloadReplacesCertificates(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	certificate, key := first.issue(t, 2)
	apiKey, hash := auth.GenerateKey()
	config := auth.Config{
		KeysFile: writeFile(t, "keys.yaml", keysYAML("dev", "acme", hash, `["*"]`)),
		TLS:      auth.TLSConfig{CertFile: writeFile(t, "cert.pem", certificate), KeyFile: writeFile(t, "key.pem", key)},
	}
	f := newFixture(t, config)
	address := serve(t, f.Authenticator)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+apiKey)
	_, err := calls["unary"](ctx, dial(t, address, first.clientCredentials(t, nil)), "orders")
	require.NoError(t, err)

	// A certificate without its key: everything stays, the API keys too.
	certificate, key = second.issue(t, 3)
	require.NoError(t, os.WriteFile(config.TLS.CertFile, []byte(certificate), 0o600))
	require.NoError(t, os.WriteFile(config.KeysFile, []byte("keys: []\n"), 0o600))
	require.Error(t, f.Reload())
	_, err = calls["unary"](ctx, dial(t, address, first.clientCredentials(t, nil)), "orders")
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(config.TLS.KeyFile, []byte(key), 0o600))
	require.NoError(t, f.Reload())
	_, err = calls["unary"](ctx, dial(t, address, second.clientCredentials(t, nil)), "orders")
	require.Equal(t, codes.Unauthenticated, status.Code(err), "new certificate, but the key is gone")
	_, err = calls["unary"](ctx, dial(t, address, first.clientCredentials(t, nil)), "orders")
	require.Equal(t, codes.Unavailable, status.Code(err))
}
