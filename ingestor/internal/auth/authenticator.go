package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// maxCredentialBytes bounds what is hashed and parsed for a caller who is not known yet.
const maxCredentialBytes = 16 << 10

// Why a credential was refused. The text is what the client gets to see.
var (
	errMissing = errors.New("credential missing: send metadata \"authorization: Bearer <API key or JWT>\"")
	errInvalid = errors.New("credential not accepted")
	errExpired = errors.New("credential has expired")
)

// Config says which credentials are accepted and under which certificate the server speaks.
type Config struct {
	// KeysFile is the API keys file; empty: no API key is accepted.
	KeysFile string
	JWT      JWTConfig
	TLS      TLSConfig
}

// Validate says what is wrong with the configuration. It reads no file.
func (c *Config) Validate() error {
	err := errors.Join(c.JWT.Validate(), c.TLS.Validate())
	if c.KeysFile == "" && !c.JWT.Enabled() {
		err = errors.Join(err, errors.New("auth: neither keys_file nor jwt is configured, so nobody could write"))
	}
	return err
}

// Options are what an Authenticator is made of.
type Options struct {
	Config     Config
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authenticator turns credentials into principals.
type Authenticator struct {
	config  Config
	now     func() time.Time
	logger  *slog.Logger
	remote  jwkset.Storage
	cancel  context.CancelFunc
	refused *prometheus.CounterVec
	current atomic.Pointer[secrets]
}

// secrets is everything that Reload replaces. It is immutable but for the verifier's cache.
type secrets struct {
	keys keySet
	jwt  *verifier
	tls  *tls.Config
}

// New reads all files that the configuration names and starts the JWKS client where a URL is configured. ctx ends that
// client, as Close does.
func New(ctx context.Context, opts Options) (*Authenticator, error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, err
	}
	a := &Authenticator{config: opts.Config, logger: opts.Logger, now: opts.Now}
	if a.now == nil {
		a.now = time.Now
	}
	a.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ingestor_auth_refused_total",
		Help: "Calls refused for want of a good credential, by reason: missing, invalid, expired.",
	}, []string{"reason"})
	for _, reason := range []string{"missing", "invalid", "expired"} {
		a.refused.WithLabelValues(reason)
	}
	ctx, a.cancel = context.WithCancel(ctx)
	if err := a.open(ctx, opts.Registerer); err != nil {
		a.cancel()
		return nil, err
	}
	return a, nil
}

func (a *Authenticator) open(ctx context.Context, registerer prometheus.Registerer) (err error) {
	if a.config.JWT.JWKSURL != "" {
		if a.remote, err = openRemoteKeys(ctx, a.config.JWT.JWKSURL, a.logger); err != nil {
			return err
		}
	}
	if err := a.Reload(); err != nil {
		return err
	}
	return registerer.Register(a.refused)
}

// Close ends the JWKS client. Calls are still answered, with the keys known by then.
func (a *Authenticator) Close() {
	a.cancel()
}

// Reload reads all files again and puts them in force together. On an error everything stays as it was. Streams that are
// open keep the principal they began with; TLS connections keep their certificates.
func (a *Authenticator) Reload() error {
	next, err := a.config.read(a.remote, a.now)
	if err != nil {
		return err
	}
	a.current.Store(next)
	a.logger.Info("credentials loaded", "api_keys", len(next.keys), "jwt", next.jwt != nil, "tls", next.tls != nil)
	return nil
}

// CheckFiles reads all files that the configuration names, and says everything that is wrong with them.
func (c *Config) CheckFiles() error {
	_, err := c.read(nil, time.Now)
	return err
}

// read reads all files. The error holds what is wrong with each.
func (c *Config) read(remote jwkset.Storage, now func() time.Time) (*secrets, error) {
	var next secrets
	var keysErr, jwtErr, tlsErr error
	if c.KeysFile != "" {
		if next.keys, keysErr = readKeysFile(c.KeysFile); keysErr != nil {
			keysErr = fmt.Errorf("auth.keys_file: %w", keysErr)
		}
	}
	if c.JWT.Enabled() {
		next.jwt, jwtErr = newVerifier(c.JWT, remote, now)
	}
	if c.TLS.Enabled() {
		next.tls, tlsErr = c.TLS.read()
	}
	if err := errors.Join(keysErr, jwtErr, tlsErr); err != nil {
		return nil, err
	}
	return &next, nil
}

// TransportCredentials returns the server's side of TLS, which follows Reload; plain text where TLS is not configured.
func (a *Authenticator) TransportCredentials() credentials.TransportCredentials {
	if !a.config.TLS.Enabled() {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return a.current.Load().tls, nil
		},
	})
}

// Authenticate returns the principal of the value of an authorization header.
func (a *Authenticator) Authenticate(ctx context.Context, authorization string) (*Principal, error) {
	principal, err := a.authenticate(ctx, authorization)
	switch {
	case err == nil:
	case errors.Is(err, errMissing):
		a.refused.WithLabelValues("missing").Inc()
	case errors.Is(err, errExpired):
		a.refused.WithLabelValues("expired").Inc()
	default:
		a.refused.WithLabelValues("invalid").Inc()
	}
	return principal, err
}

func (a *Authenticator) authenticate(ctx context.Context, authorization string) (*Principal, error) {
	if authorization == "" {
		return nil, errMissing
	}
	scheme, credential, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "bearer") || credential == "" || len(credential) > maxCredentialBytes {
		return nil, errInvalid
	}
	current := a.current.Load()
	if strings.HasPrefix(credential, keyPrefix) {
		return current.keys.authenticate(credential, a.now())
	}
	if current.jwt == nil {
		return nil, errInvalid
	}
	return current.jwt.authenticate(ctx, credential, a.now())
}
