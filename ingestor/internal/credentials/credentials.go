// Package credentials makes the secrets of a new installation: an API key, and a database password where a database stands
// beside the server. Nothing is ever a default: every secret is random, made once, and found again at the next call.
package credentials

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/ingestor-project/ingestor/ingestor/internal/auth"
)

// The files of a directory that Init has made.
const (
	keysFile             = "keys.yaml"         // hashes, for auth.keys_file
	apiKeyFile           = "api_key"           // the key itself, for its owner
	databasePasswordFile = "database_password" // for the database container
	databaseDSNFile      = "database_dsn"      // for timescale.dsn_file
)

const databaseUser = "ingestor"

// Init fills dir with what is missing. A database password and DSN are made only where databaseHost is not empty.
func Init(dir, tenant, databaseHost string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the credentials directory: %w", err)
	}
	if err := initKey(dir, tenant); err != nil {
		return err
	}
	if databaseHost == "" {
		return nil
	}
	return initDatabase(dir, databaseHost)
}

// APIKey returns the key that Init has made in dir.
func APIKey(dir string) (string, error) {
	key, err := os.ReadFile(filepath.Join(dir, apiKeyFile))
	return strings.TrimSpace(string(key)), err
}

// NewKey makes an API key and the entry of the keys file that admits it, as YAML.
func NewKey(id, tenant string, endpoints []string) (key, entry string, err error) {
	if _, err := auth.NewPrincipal(tenant, id, endpoints); err != nil {
		return "", "", err
	}
	key, hash := auth.GenerateKey()
	text, err := yaml.Marshal([]map[string]any{{"id": id, "tenant": tenant, "sha256": hash, "endpoints": endpoints}})
	return key, string(text), err
}

// initKey writes the key first: a crash between the two files leaves a key that admits nobody, and the next call makes
// both anew.
func initKey(dir, tenant string) error {
	if exists(dir, keysFile) {
		return nil
	}
	key, entry, err := NewKey(tenant, tenant, []string{"*"})
	if err != nil {
		return fmt.Errorf("make an API key: %w", err)
	}
	if err := write(dir, apiKeyFile, key+"\n", 0o600); err != nil {
		return err
	}
	return write(dir, keysFile, "keys:\n"+entry, 0o600)
}

func initDatabase(dir, host string) error {
	if exists(dir, databaseDSNFile) {
		return nil
	}
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	password := base64.RawURLEncoding.EncodeToString(random[:])
	// The database reads it under a user of its own; the directory is a volume that only these two share.
	if err := write(dir, databasePasswordFile, password, 0o444); err != nil {
		return err
	}
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(databaseUser, password), Host: host, Path: databaseUser}
	return write(dir, databaseDSNFile, dsn.String(), 0o600)
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// write replaces a file in one step and makes it durable: a key that was shown must not be lost.
func write(dir, name, content string, mode fs.FileMode) error {
	temp, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // it is gone once it has been renamed
	_, err = temp.WriteString(content)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
