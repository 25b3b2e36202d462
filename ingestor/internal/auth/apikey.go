package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

const (
	keyPrefix      = "ik_"
	keyRandomBytes = 32
)

// GenerateKey returns a new API key, which is shown to its owner once, and the lower-case hexadecimal SHA-256 that goes
// into the keys file.
func GenerateKey() (key, hash string) {
	var random [keyRandomBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the process instead
	key = keyPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	return key, HashKey(key)
}

// HashKey returns the lower-case hexadecimal SHA-256 of a key string, as the keys file holds it.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// keysFile is the form of the API keys file.
type keysFile struct {
	Keys *[]keyEntry `yaml:"keys"`
}

type keyEntry struct {
	ID        string   `yaml:"id"`
	Tenant    string   `yaml:"tenant"`
	SHA256    string   `yaml:"sha256"`
	Endpoints []string `yaml:"endpoints"`
	ExpiresAt string   `yaml:"expires_at"`
}

type apiKey struct {
	hash      [sha256.Size]byte
	principal *Principal
	// expiresAt is zero where the key never expires.
	expiresAt time.Time
}

// keySet finds API keys by their hash. It is immutable.
type keySet map[[sha256.Size]byte]*apiKey

func readKeysFile(path string) (keySet, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(content []byte) (keySet, error) {
	var file keysFile
	if err := yaml.UnmarshalWithOptions(content, &file, yaml.Strict()); err != nil {
		// Without the excerpt of the file that the plain error has: somebody may have put a key in it.
		return nil, errors.New(firstLine(yaml.FormatError(err, false, false)))
	}
	if file.Keys == nil {
		return nil, errors.New(`no list "keys"`)
	}
	keys := make(keySet, len(*file.Keys))
	ids := make(map[string]struct{}, len(*file.Keys))
	for i := range *file.Keys {
		entry := &(*file.Keys)[i]
		key, err := entry.parse()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if _, ok := ids[entry.ID]; ok {
			return nil, fmt.Errorf("key %d: id %q is used twice", i, entry.ID)
		}
		if _, ok := keys[key.hash]; ok {
			return nil, fmt.Errorf("key %d: another key has the same sha256", i)
		}
		ids[entry.ID] = struct{}{}
		keys[key.hash] = key
	}
	return keys, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (e *keyEntry) parse() (*apiKey, error) {
	if e.ID == "" {
		return nil, errors.New("id is missing")
	}
	hash, err := hex.DecodeString(e.SHA256)
	if err != nil || len(hash) != sha256.Size {
		return nil, fmt.Errorf("sha256 must be %d hexadecimal digits", 2*sha256.Size)
	}
	key := &apiKey{hash: [sha256.Size]byte(hash)}
	if e.ExpiresAt != "" {
		if key.expiresAt, err = time.Parse(time.RFC3339, e.ExpiresAt); err != nil {
			return nil, errors.New("expires_at must be a time in RFC 3339, such as 2030-01-31T00:00:00Z")
		}
	}
	if len(e.Endpoints) == 0 {
		return nil, errors.New(`endpoints is missing; ["*"] permits all`)
	}
	key.principal, err = NewPrincipal(e.Tenant, e.ID, e.Endpoints)
	return key, err
}

// authenticate returns the principal of an API key.
func (s keySet) authenticate(key string, now time.Time) (*Principal, error) {
	hash := sha256.Sum256([]byte(key))
	// The map compares hashes, not keys, and the confirming comparison takes constant time: what an attacker can learn
	// from timing is bits of a hash he cannot choose.
	found, ok := s[hash]
	if !ok || subtle.ConstantTimeCompare(hash[:], found.hash[:]) != 1 {
		return nil, errInvalid
	}
	if !found.expiresAt.IsZero() && !now.Before(found.expiresAt) {
		return nil, errExpired
	}
	return found.principal, nil
}
