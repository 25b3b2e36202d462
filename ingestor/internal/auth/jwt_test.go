package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
)

const secret = "0123456789abcdef0123456789abcdef"

func jwtConfig(algorithms ...string) auth.JWTConfig {
	return auth.JWTConfig{Issuer: "https://issuer.test", Audience: "ingestor", Algorithms: algorithms}
}

func goodClaims(now time.Time) jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "https://issuer.test", "aud": []string{"other", "ingestor"}, "sub": "job-7",
		"exp": now.Add(time.Hour).Unix(), "nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(),
		"tenant": "acme", "endpoints": []string{"orders", "sensor-*"},
	}
}

func TestJWTEachAlgorithmOverGRPC(t *testing.T) {
	s := newSigners(t)
	config := jwtConfig("HS256", "RS256", "ES256", "EdDSA")
	config.JWKSFile = writeFile(t, "jwks.json", s.jwks)
	config.HMACSecretFile = writeFile(t, "secret", secret+"\n")
	f := newFixture(t, auth.Config{JWT: config})
	conn := dial(t, serve(t, f.Authenticator), nil)
	keys := map[string]any{"HS256": []byte(secret)}
	for algorithm, key := range s.keys {
		keys[algorithm] = key
	}
	for algorithm, key := range keys {
		for _, kid := range []string{algorithm, ""} {
			token := sign(t, algorithm, key, kid, goodClaims(f.clock.Now()))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
			for form, call := range calls {
				answer, err := call(ctx, conn, "sensor-1")
				require.NoError(t, err, "%s %s kid %q", algorithm, form, kid)
				require.Equal(t, "acme/job-7", answer)
				answer, err = call(ctx, conn, "users")
				require.NoError(t, err)
				require.Equal(t, "acme/job-7 forbidden", answer)
			}
			// One changed byte in the middle of the signature.
			dot := strings.LastIndex(token, ".")
			middle := dot + (len(token)-dot)/2
			forged := token[:middle] + string(token[middle]^1) + token[middle+1:]
			ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+forged)
			_, err := calls["unary"](ctx, conn, "orders")
			require.Equal(t, codes.Unauthenticated, status.Code(err), algorithm)
		}
	}
}

func TestJWTClaims(t *testing.T) {
	config := jwtConfig("HS256")
	config.HMACSecretFile = writeFile(t, "secret", secret)
	config.Leeway = 10 * time.Second
	f := newFixture(t, auth.Config{JWT: config})
	now := f.clock.Now()
	for name, test := range map[string]struct {
		claim string
		value any // nil deletes the claim
		ok    bool
	}{
		"as it should be":      {"sub", "job-7", true},
		"no exp":               {"exp", nil, false},
		"exp is text":          {"exp", "never", false},
		"expired":              {"exp", now.Add(-11 * time.Second).Unix(), false},
		"expired in leeway":    {"exp", now.Add(-9 * time.Second).Unix(), true},
		"not yet":              {"nbf", now.Add(11 * time.Second).Unix(), false},
		"not yet in leeway":    {"nbf", now.Add(9 * time.Second).Unix(), true},
		"no nbf":               {"nbf", nil, true},
		"issued in the future": {"iat", now.Add(time.Minute).Unix(), false},
		"wrong issuer":         {"iss", "https://issuer.test/", false},
		"no issuer":            {"iss", nil, false},
		"wrong audience":       {"aud", "ingestors", false},
		"no audience":          {"aud", nil, false},
		"one audience":         {"aud", "ingestor", true},
		"no tenant":            {"tenant", nil, false},
		"empty tenant":         {"tenant", "", false},
		"tenant is a list":     {"tenant", []string{"acme"}, false},
		"no endpoints":         {"endpoints", nil, false},
		"endpoints is text":    {"endpoints", "*", false},
		"endpoint is a number": {"endpoints", []any{"orders", 7}, false},
		"bad pattern":          {"endpoints", []any{"a*b"}, false},
		"no subject":           {"sub", nil, true},
	} {
		claims := maps.Clone(goodClaims(now))
		if claims[test.claim] = test.value; test.value == nil {
			delete(claims, test.claim)
		}
		p, err := f.Authenticate(t.Context(), "Bearer "+sign(t, "HS256", []byte(secret), "", claims))
		require.Equal(t, test.ok, err == nil, "%s: %v", name, err)
		if test.ok {
			require.Equal(t, "acme", p.Tenant)
		}
	}
}

func TestJWTIsNotBelievedBeforeItsTimeAlthoughCached(t *testing.T) {
	config := jwtConfig("HS256")
	config.HMACSecretFile = writeFile(t, "secret", secret)
	f := newFixture(t, auth.Config{JWT: config})
	token := "Bearer " + sign(t, "HS256", []byte(secret), "", goodClaims(f.clock.Now()))
	_, err := f.Authenticate(t.Context(), token)
	require.NoError(t, err)
	f.clock.Advance(-10 * time.Minute) // the clock is put back
	_, err = f.Authenticate(t.Context(), token)
	require.Error(t, err)
	f.clock.Advance(10 * time.Minute)
	_, err = f.Authenticate(t.Context(), token)
	require.NoError(t, err)
}

func TestJWTExpiresAlthoughCached(t *testing.T) {
	config := jwtConfig("HS256")
	config.HMACSecretFile = writeFile(t, "secret", secret)
	f := newFixture(t, auth.Config{JWT: config})
	claims := goodClaims(f.clock.Now())
	claims["exp"] = f.clock.Now().Add(30 * time.Second).Unix()
	token := "Bearer " + sign(t, "HS256", []byte(secret), "", claims)
	for range 3 {
		_, err := f.Authenticate(t.Context(), token)
		require.NoError(t, err)
		f.clock.Advance(14 * time.Second)
	}
	_, err := f.Authenticate(t.Context(), token)
	require.EqualError(t, err, "credential has expired")
}

// A token names its own algorithm. It must not be able to choose one that turns a public key into a secret, or none at all.
func TestJWTAlgorithmConfusion(t *testing.T) {
	s := newSigners(t)
	config := jwtConfig("RS256", "HS256", "ES256")
	config.JWKSFile = writeFile(t, "jwks.json", s.jwks)
	config.HMACSecretFile = writeFile(t, "secret", secret)
	f := newFixture(t, auth.Config{JWT: config})
	claims := goodClaims(f.clock.Now())
	public, err := x509.MarshalPKIXPublicKey(s.keys["RS256"].Public())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)

	for name, token := range map[string]string{
		"none":                            none,
		"HS256 over a public key, DER":    sign(t, "HS256", public, "RS256", claims),
		"HS256 over a public key, PEM":    sign(t, "HS256", publicPEM, "RS256", claims),
		"HS256 over the JWKS":             sign(t, "HS256", []byte(s.jwks), "RS256", claims),
		"HS256 over nothing":              sign(t, "HS256", []byte{}, "", claims),
		"HS512 with the true secret":      sign(t, "HS512", []byte(secret), "", claims),
		"RS384 with the true key":         sign(t, "RS384", s.keys["RS256"], "RS256", claims),
		"PS256 with the true key":         sign(t, "PS256", s.keys["RS256"], "RS256", claims),
		"EdDSA with a known key":          sign(t, "EdDSA", s.keys["EdDSA"], "EdDSA", claims),
		"RS256 under another key's id":    sign(t, "RS256", s.keys["RS256"], "ES256", claims),
		"ES384 under a known key's id":    sign(t, "ES384", p384, "ES256", claims),
		"RS256 with an unknown key id":    sign(t, "RS256", s.keys["RS256"], "unknown", claims),
		"no signature":                    sign(t, "RS256", s.keys["RS256"], "RS256", claims)[:40],
		"claims of one, signature of two": "x.y.z",
	} {
		_, err := f.Authenticate(t.Context(), "Bearer "+token)
		require.EqualError(t, err, "credential not accepted", name)
	}
}

func TestJWKSOverHTTP(t *testing.T) {
	first, second := newSigners(t), newSigners(t)
	var jwks atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		content := jwks.Load()
		if content == nil {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(*content))
	}))
	defer server.Close()
	config := jwtConfig("ES256")
	config.JWKSURL = server.URL
	// The URL does not answer at start: that is logged, and API keys would work meanwhile.
	f := newFixture(t, auth.Config{JWT: config})
	require.Contains(t, f.log.String(), "refresh of JWKS failed")

	// An unknown key id makes the client ask again.
	jwks.Store(&first.jwks)
	claims := goodClaims(f.clock.Now())
	p, err := f.Authenticate(t.Context(), "Bearer "+sign(t, "ES256", first.keys["ES256"], "ES256", claims))
	require.NoError(t, err)
	require.Equal(t, "acme", p.Tenant)
	_, err = f.Authenticate(t.Context(), "Bearer "+sign(t, "ES256", second.keys["ES256"], "ES256", claims))
	require.EqualError(t, err, "credential not accepted")
}

func TestReloadReplacesJWTKeysAndForgetsVerifiedTokens(t *testing.T) {
	first, second := newSigners(t), newSigners(t)
	config := jwtConfig("EdDSA")
	config.JWKSFile = writeFile(t, "jwks.json", first.jwks)
	f := newFixture(t, auth.Config{JWT: config})
	claims := goodClaims(f.clock.Now())
	oldToken := "Bearer " + sign(t, "EdDSA", first.keys["EdDSA"], "EdDSA", claims)
	newToken := "Bearer " + sign(t, "EdDSA", second.keys["EdDSA"], "EdDSA", claims)
	_, err := f.Authenticate(t.Context(), oldToken)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(config.JWKSFile, []byte(`{"keys": [{"kty":"OKP","d":"private"`), 0o600))
	err = f.Reload()
	require.ErrorContains(t, err, "not a valid JWK set")
	require.NotContains(t, err.Error(), "private")
	_, err = f.Authenticate(t.Context(), oldToken)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(config.JWKSFile, []byte(second.jwks), 0o600))
	require.NoError(t, f.Reload())
	_, err = f.Authenticate(t.Context(), newToken)
	require.NoError(t, err)
	_, err = f.Authenticate(t.Context(), oldToken)
	require.Error(t, err)
}

func TestConfigValidate(t *testing.T) {
	jwks := func(c auth.JWTConfig) auth.JWTConfig { c.JWKSFile = "f"; return c }
	hmac := func(c auth.JWTConfig) auth.JWTConfig { c.HMACSecretFile = "f"; return c }
	noIssuer := jwks(jwtConfig("RS256"))
	noIssuer.Issuer = ""
	leeway := jwks(jwtConfig("RS256"))
	leeway.Leeway = -1
	for name, test := range map[string]struct {
		config auth.Config
		ok     bool
	}{
		"nothing":           {auth.Config{}, false},
		"keys":              {auth.Config{KeysFile: "f"}, true},
		"jwks":              {auth.Config{JWT: jwks(jwtConfig("RS256"))}, true},
		"hmac":              {auth.Config{JWT: hmac(jwtConfig("HS256"))}, true},
		"both":              {auth.Config{JWT: jwks(hmac(jwtConfig("HS256", "ES256")))}, true},
		"none":              {auth.Config{JWT: jwks(jwtConfig("none"))}, false},
		"no algorithm":      {auth.Config{JWT: jwks(jwtConfig())}, false},
		"HS256, no secret":  {auth.Config{JWT: jwks(jwtConfig("HS256"))}, false},
		"RS256, no JWKS":    {auth.Config{JWT: hmac(jwtConfig("RS256"))}, false},
		"secret, no HS256":  {auth.Config{JWT: jwks(hmac(jwtConfig("RS256")))}, false},
		"no issuer":         {auth.Config{JWT: noIssuer}, false},
		"negative leeway":   {auth.Config{JWT: leeway}, false},
		"certificate alone": {auth.Config{KeysFile: "f", TLS: auth.TLSConfig{CertFile: "f"}}, false},
		"client CA alone":   {auth.Config{KeysFile: "f", TLS: auth.TLSConfig{ClientCAFile: "f"}}, false},
	} {
		require.Equal(t, test.ok, test.config.Validate() == nil, name)
	}
}

func TestShortHMACSecretIsRefused(t *testing.T) {
	config := jwtConfig("HS256")
	config.HMACSecretFile = writeFile(t, "secret", secret)
	f := newFixture(t, auth.Config{JWT: config})
	require.NoError(t, os.WriteFile(config.HMACSecretFile, []byte(secret[1:]), 0o600))
	err := f.Reload()
	require.ErrorContains(t, err, "shorter than 32 bytes")
	require.NotContains(t, err.Error(), secret[1:])
}

func TestEverythingThatIsWrongIsSaid(t *testing.T) {
	config := auth.Config{
		KeysFile: writeFile(t, "keys.yaml", "keys: broken"),
		JWT: auth.JWTConfig{
			Issuer: "i", Audience: "a", Algorithms: []string{"HS256"}, HMACSecretFile: writeFile(t, "secret", "short"),
		},
		TLS: auth.TLSConfig{CertFile: writeFile(t, "cert.pem", ""), KeyFile: writeFile(t, "key.pem", "")},
	}
	err := config.CheckFiles()
	for _, want := range []string{"auth.keys_file", "auth.jwt.hmac_secret_file", "tls"} {
		require.ErrorContains(t, err, want)
	}
	err = (&auth.JWTConfig{Algorithms: []string{"none"}, Leeway: -1}).Validate()
	for _, want := range []string{"issuer and audience", "none", "jwks_file", "leeway"} {
		require.ErrorContains(t, err, want)
	}
}
