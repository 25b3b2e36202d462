package credentials_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
	"github.com/ingestor-project/ingestor/ingestor/internal/credentials"
)

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(content)
}

func TestInitMakesAKeyThatAdmitsItsTenantAndNothingTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, credentials.Init(dir, "acme", "db"))
	key, err := credentials.APIKey(dir)
	require.NoError(t, err)

	a, err := auth.New(context.Background(), auth.Options{Config: auth.Config{KeysFile: filepath.Join(dir, "keys.yaml")}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	defer a.Close()
	principal, err := a.Authenticate(context.Background(), "Bearer "+key)
	require.NoError(t, err)
	require.Equal(t, "acme", principal.Tenant)
	require.True(t, principal.MayWrite("anything"))

	dsn, err := url.Parse(read(t, dir, "database_dsn"))
	require.NoError(t, err)
	password, _ := dsn.User.Password()
	require.Equal(t, read(t, dir, "database_password"), password)
	require.Equal(t, "db", dsn.Host)
	require.NotContains(t, read(t, dir, "keys.yaml"), key, "the keys file holds hashes only")
	info, err := os.Stat(filepath.Join(dir, "api_key"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	require.NoError(t, credentials.Init(dir, "acme", "db"))
	again, err := credentials.APIKey(dir)
	require.NoError(t, err)
	require.Equal(t, key, again)
	require.Equal(t, password, read(t, dir, "database_password"))
}

func TestNewKeyRefusesWhatTheServerWouldRefuse(t *testing.T) {
	_, _, err := credentials.NewKey("id", "", []string{"*"})
	require.Error(t, err)
	_, _, err = credentials.NewKey("id", "acme", []string{"a*b"})
	require.Error(t, err)
}
