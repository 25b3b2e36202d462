package serverproc

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
)

// Options say which server to run and how.
type Options struct {
	// Binary is the path of the server's executable. Required.
	Binary string
	// Command says what the server is to be. Default: Serve.
	Command Command
	// AckRecords is what an EmptyHandler states as the number of records of every batch. Default: 1.
	AckRecords uint32
	// Dir is the directory that the Server owns; created where it does not exist. Required.
	Dir string
	// DataDir is the server's data directory. Default: Dir/data.
	DataDir string
	// Config holds keys of the server's config file, nested as there. They win over what the harness sets.
	Config map[string]any
	// Tenants get one API key each, for all endpoints. Default: one tenant, "bench".
	Tenants []string
	// Wrap is put before the server's command line, for example {"strace", "-f"}.
	Wrap []string
	// Env is added to the environment of the harness.
	Env []string
	// Args are added to the server's command line.
	Args []string
	// StartTimeout bounds the wait for readiness, replay included. Default: one minute.
	StartTimeout time.Duration
}

// Command is a way to run the server's executable.
type Command string

// The commands. All but Serve store nothing, and say of every batch that it is BUFFERED.
const (
	// Serve is the real server.
	Serve Command = "serve"
	// NullSink does all that Serve does up to the log: credentials, memory, validation.
	NullSink Command = "null-sink"
	// EmptyHandler looks at no request: what is left is transport, codec and credentials.
	EmptyHandler Command = "empty-handler"
)

const (
	defaultTenant       = "bench"
	defaultStartTimeout = time.Minute
	anyFreePort         = "127.0.0.1:0"
)

func (o Options) withDefaults() (Options, error) {
	if o.Binary == "" || o.Dir == "" {
		return o, errors.New("serverproc: Binary and Dir are required")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, err
	}
	o.Dir = dir
	if o.DataDir == "" {
		o.DataDir = filepath.Join(o.Dir, "data")
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return o, err
	}
	if len(o.Tenants) == 0 {
		o.Tenants = []string{defaultTenant}
	}
	if o.Command == "" {
		o.Command = Serve
	}
	if o.AckRecords == 0 {
		o.AckRecords = 1
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = defaultStartTimeout
	}
	return o, nil
}

func (o Options) configPath() string  { return filepath.Join(o.Dir, "config.yaml") }
func (o Options) keysPath() string    { return filepath.Join(o.Dir, "keys.yaml") }
func (o Options) addressPath() string { return filepath.Join(o.Dir, "address.json") }
func (o Options) logPath() string     { return filepath.Join(o.Dir, "server.log") }

// argv is the command line, without what wraps it.
func (o Options) argv() []string {
	argv := []string{o.Binary, string(o.Command)}
	if o.Command == EmptyHandler {
		argv = []string{o.Binary, string(NullSink), "--answer", "empty", "--ack-records", strconv.FormatUint(uint64(o.AckRecords), 10)}
	}
	return slices.Concat(argv, []string{"--config", o.configPath(), "--address-file", o.addressPath()}, o.Args)
}

// writeConfig writes the config file with the given listen addresses.
func (o Options) writeConfig(grpcAddress, adminAddress string) error {
	config := map[string]any{
		"data_dir": o.DataDir,
		"listen":   map[string]any{"grpc": grpcAddress, "admin": adminAddress},
		"auth":     map[string]any{"keys_file": o.keysPath()},
	}
	encoded, err := yaml.Marshal(overlay(config, o.Config))
	if err != nil {
		return fmt.Errorf("encode server config: %w", err)
	}
	// 0600: a data source name in it may hold a password.
	return os.WriteFile(o.configPath(), encoded, 0o600)
}

// overlay returns base with the keys of over laid on top, section by section. Neither map is changed.
func overlay(base, over map[string]any) map[string]any {
	merged := maps.Clone(base)
	for key, value := range over {
		lower, lowerIsSection := merged[key].(map[string]any)
		upper, upperIsSection := value.(map[string]any)
		if lowerIsSection && upperIsSection {
			merged[key] = overlay(lower, upper)
		} else {
			merged[key] = value
		}
	}
	return merged
}

type keyEntry struct {
	ID        string   `yaml:"id"`
	Tenant    string   `yaml:"tenant"`
	SHA256    string   `yaml:"sha256"`
	Endpoints []string `yaml:"endpoints"`
}

// writeKeys makes an API key for each tenant, writes their hashes to the keys file and returns the keys by tenant.
func (o Options) writeKeys() (map[string]string, error) {
	keys := make(map[string]string, len(o.Tenants))
	var entries []keyEntry
	for _, tenant := range slices.Sorted(slices.Values(o.Tenants)) {
		key := newKey()
		keys[tenant] = key
		sum := sha256.Sum256([]byte(key))
		entries = append(entries, keyEntry{
			ID: "bench-" + tenant, Tenant: tenant, SHA256: hex.EncodeToString(sum[:]), Endpoints: []string{"*"},
		})
	}
	encoded, err := yaml.Marshal(map[string]any{"keys": entries})
	if err != nil {
		return nil, fmt.Errorf("encode API keys: %w", err)
	}
	return keys, os.WriteFile(o.keysPath(), encoded, 0o600)
}

func newKey() string {
	var secret [32]byte
	// crypto/rand.Read never fails.
	_, _ = rand.Read(secret[:])
	return "ik_" + base64.RawURLEncoding.EncodeToString(secret[:])
}
