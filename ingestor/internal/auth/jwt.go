package auth

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	minHMACSecretBytes  = 32
	jwksHTTPTimeout     = 10 * time.Second
	jwksRefreshInterval = 5 * time.Minute
	// A token with an unknown key id makes the JWKS client ask the URL again, at most this often and for this long.
	jwksUnknownKeyInterval = time.Minute
	jwksUnknownKeyWait     = 5 * time.Second

	// A verified token is believed without verifying it again for this long, and never past its expiry: a signature costs
	// tens of microseconds. It also bounds how long a key that the JWKS URL has dropped stays good.
	tokenCacheTTL     = time.Minute
	tokenCacheEntries = 4096
)

var supportedAlgorithms = []string{"HS256", "RS256", "ES256", "EdDSA"}

// JWTConfig says which JWTs are accepted. The zero value accepts none.
type JWTConfig struct {
	// Issuer and Audience must match the claims iss and aud. Both are required.
	Issuer, Audience string
	// Public keys come from a JWKS file or a URL, or both.
	JWKSFile, JWKSURL string
	// HMACSecretFile holds the secret for HS256, 32 bytes at least; line breaks at its end are not part of it.
	HMACSecretFile string
	// Algorithms that are accepted: HS256, RS256, ES256, EdDSA.
	Algorithms []string
	// TenantClaim and EndpointsClaim name the claims that hold the tenant (a string) and the endpoint patterns (a list of
	// strings). Default: "tenant" and "endpoints".
	TenantClaim, EndpointsClaim string
	// Leeway is the clock skew that exp, nbf and iat are forgiven.
	Leeway time.Duration
}

// Enabled tells whether any key for JWTs is configured.
func (c *JWTConfig) Enabled() bool {
	return c.JWKSFile != "" || c.JWKSURL != "" || c.HMACSecretFile != "" || len(c.Algorithms) > 0
}

// Validate says everything that is wrong with an enabled configuration.
func (c *JWTConfig) Validate() error {
	if !c.Enabled() {
		return nil
	}
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Issuer == "" || c.Audience == "" {
		refuse("auth.jwt: issuer and audience are required")
	}
	if len(c.Algorithms) == 0 {
		refuse("auth.jwt.algorithms: name at least one of %v", supportedAlgorithms)
	}
	for _, algorithm := range c.Algorithms {
		if !slices.Contains(supportedAlgorithms, algorithm) {
			refuse("auth.jwt.algorithms: %q is not one of %v", algorithm, supportedAlgorithms)
		}
	}
	hmac := slices.Contains(c.Algorithms, "HS256")
	public := len(c.Algorithms) > 1 || !hmac
	if hmac != (c.HMACSecretFile != "") {
		refuse("auth.jwt: HS256 and hmac_secret_file need each other")
	}
	if public != (c.JWKSFile != "" || c.JWKSURL != "") {
		refuse("auth.jwt: RS256, ES256 and EdDSA need jwks_file or jwks_url, and the reverse")
	}
	if c.Leeway < 0 || c.Leeway > time.Hour {
		refuse("auth.jwt.leeway: must be between 0 and 1h")
	}
	return errors.Join(problems...)
}

// openRemoteKeys starts the client of a JWKS URL, whose goroutine ends with ctx. An unreachable URL is no error: it is logged
// and asked again.
func openRemoteKeys(ctx context.Context, url string, logger *slog.Logger) (jwkset.Storage, error) {
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{url}, keyfunc.Override{
		Client:            &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
		HTTPTimeout:       jwksHTTPTimeout,
		RefreshInterval:   jwksRefreshInterval,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(jwksUnknownKeyInterval), 1),
		RateLimitWaitMax:  jwksUnknownKeyWait,
		RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
			return func(_ context.Context, err error) {
				logger.Error("refresh of JWKS failed", "error", err)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("auth.jwt.jwks_url: %w", err)
	}
	return keys.Storage(), nil
}

// verifier checks JWTs against one set of keys. The keys of a URL may change beneath it.
type verifier struct {
	parser *jwt.Parser
	secret []byte
	stores []jwkset.Storage
	config JWTConfig

	mu    sync.RWMutex
	cache map[[sha256.Size]byte]cachedToken // guarded by mu
}

type cachedToken struct {
	principal *Principal
	// The entry may be used from verifiedAt to before validUntil; the token itself expires at expiresAt.
	verifiedAt, validUntil, expiresAt time.Time
}

// newVerifier reads the files that config names. remote is nil where no URL is configured.
func newVerifier(config JWTConfig, remote jwkset.Storage, now func() time.Time) (*verifier, error) {
	v := &verifier{config: config, cache: make(map[[sha256.Size]byte]cachedToken)}
	if v.config.TenantClaim == "" {
		v.config.TenantClaim = "tenant"
	}
	if v.config.EndpointsClaim == "" {
		v.config.EndpointsClaim = "endpoints"
	}
	v.parser = jwt.NewParser(
		jwt.WithValidMethods(config.Algorithms),
		jwt.WithIssuer(config.Issuer),
		jwt.WithAudience(config.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(config.Leeway),
		jwt.WithTimeFunc(now),
	)
	if config.HMACSecretFile != "" {
		content, err := os.ReadFile(config.HMACSecretFile)
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.hmac_secret_file: %w", err)
		}
		v.secret = bytes.TrimRight(content, "\r\n")
		if len(v.secret) < minHMACSecretBytes {
			return nil, fmt.Errorf("auth.jwt.hmac_secret_file: shorter than %d bytes", minHMACSecretBytes)
		}
	}
	if config.JWKSFile != "" {
		store, err := readJWKSFile(config.JWKSFile)
		if err != nil {
			return nil, fmt.Errorf("auth.jwt.jwks_file: %w", err)
		}
		v.stores = append(v.stores, store)
	}
	if remote != nil {
		v.stores = append(v.stores, remote)
	}
	return v, nil
}

func readJWKSFile(path string) (jwkset.Storage, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := keyfunc.NewJWKSetJSON(content)
	if err != nil {
		// Not wrapped: the parser's message may quote a private key that was put there by mistake.
		return nil, fmt.Errorf("%s is not a valid JWK set", path)
	}
	return keys.Storage(), nil
}

// authenticate returns the principal of a token.
func (v *verifier) authenticate(ctx context.Context, token string, now time.Time) (*Principal, error) {
	// Tokens are bound to the wall clock. Compared by the monotonic one, a cached token would outlive its expiry when the clock is put
	// forward, and be believed before its time when the clock is put back.
	now = now.Round(0)
	hash := sha256.Sum256([]byte(token))
	v.mu.RLock()
	cached, ok := v.cache[hash]
	v.mu.RUnlock()
	if ok && !now.Before(cached.verifiedAt) && now.Before(cached.validUntil) {
		return cached.principal, nil
	}
	if ok && !now.Before(cached.expiresAt) {
		return nil, errExpired
	}
	principal, expiresAt, err := v.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	validUntil := now.Add(tokenCacheTTL)
	if expiresAt.Before(validUntil) {
		validUntil = expiresAt
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.cache) >= tokenCacheEntries {
		clear(v.cache)
	}
	v.cache[hash] = cachedToken{principal, now, validUntil, expiresAt}
	return principal, nil
}

func (v *verifier) verify(ctx context.Context, token string) (*Principal, time.Time, error) {
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return v.keysFor(ctx, t) })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, time.Time{}, errExpired
	case err != nil:
		return nil, time.Time{}, errInvalid
	}
	expiresAt, err := claims.GetExpirationTime()
	if err != nil || expiresAt == nil {
		return nil, time.Time{}, errInvalid
	}
	principal, err := v.principal(claims)
	if err != nil {
		return nil, time.Time{}, errInvalid
	}
	return principal, expiresAt.Add(v.config.Leeway), nil
}

func (v *verifier) principal(claims jwt.MapClaims) (*Principal, error) {
	tenant, ok := claims[v.config.TenantClaim].(string)
	if !ok {
		return nil, errInvalid
	}
	list, ok := claims[v.config.EndpointsClaim].([]any)
	if !ok {
		return nil, errInvalid
	}
	patterns := make([]string, len(list))
	for i, item := range list {
		if patterns[i], ok = item.(string); !ok {
			return nil, errInvalid
		}
	}
	subject, err := claims.GetSubject()
	if err != nil {
		return nil, err
	}
	return NewPrincipal(tenant, subject, patterns)
}

// keysFor returns the keys that may have signed a token. The algorithm is the token's word, hence each is given only keys of
// its own kind: HS256 the secret, the others public keys of their type. The parser has checked that it is configured.
func (v *verifier) keysFor(ctx context.Context, token *jwt.Token) (any, error) {
	algorithm := token.Method.Alg()
	if algorithm == "HS256" {
		return v.secret, nil
	}
	var set jwt.VerificationKeySet
	kid, hasKID := token.Header[jwkset.HeaderKID].(string)
	for _, store := range v.stores {
		var keys []jwkset.JWK
		var err error
		if hasKID {
			var key jwkset.JWK
			if key, err = store.KeyRead(ctx, kid); err == nil {
				keys = []jwkset.JWK{key}
			}
		} else {
			keys, err = store.KeyReadAll(ctx)
		}
		if err != nil {
			continue // another store may know the key; no key at all is an error below
		}
		for _, key := range keys {
			if public, ok := signingKey(key, algorithm); ok {
				set.Keys = append(set.Keys, public)
			}
		}
	}
	if len(set.Keys) == 0 {
		return nil, errInvalid
	}
	return set, nil
}

// signingKey returns the public key of a JWK where it may verify signatures of the algorithm.
func signingKey(jwk jwkset.JWK, algorithm string) (crypto.PublicKey, bool) {
	marshal := jwk.Marshal()
	if marshal.USE != "" && marshal.USE != jwkset.UseSig {
		return nil, false
	}
	if alg := marshal.ALG.String(); alg != "" && alg != algorithm {
		return nil, false
	}
	key := jwk.Key()
	if private, ok := key.(interface{ Public() crypto.PublicKey }); ok {
		key = private.Public()
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		return key, algorithm == "RS256"
	case *ecdsa.PublicKey:
		return key, algorithm == "ES256" && key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return key, algorithm == "EdDSA"
	}
	return nil, false
}
