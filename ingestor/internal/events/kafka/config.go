package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config says where the topic is. Without Brokers nothing is announced.
type Config struct {
	// Brokers are addresses, host:port, to begin with; the cluster names the others.
	Brokers []string
	Topic   string
	// Interval is the least time between two looks at the positions.
	Interval time.Duration
	// TLS encrypts connections. CAFile, PEM, replaces the system's authorities.
	TLS    bool
	CAFile string
	// SASL is empty, plain, scram-sha-256 or scram-sha-512.
	SASL string
	User string
	// PasswordFile holds the password; a newline at its end is ignored. It is read when the client is made.
	PasswordFile string
}

const (
	saslPlain    = "plain"
	saslSCRAM256 = "scram-sha-256"
	saslSCRAM512 = "scram-sha-512"
)

// Enabled tells whether a cluster is configured.
func (c *Config) Enabled() bool { return len(c.Brokers) > 0 }

// Validate reports every unusable setting. It reads no file.
func (c *Config) Validate() error {
	if !c.Enabled() {
		return nil
	}
	var problems []error
	check := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, errors.New("kafka: "+problem))
		}
	}
	check(c.Topic != "", "a topic is required")
	check(c.Interval > 0, "the interval must be positive")
	check(c.CAFile == "" || c.TLS, "a CA file needs TLS")
	switch c.SASL {
	case "":
		check(c.User == "" && c.PasswordFile == "", "a user or password file needs a SASL mechanism")
	case saslPlain, saslSCRAM256, saslSCRAM512:
		check(c.User != "" && c.PasswordFile != "", "SASL needs a user and a password file")
		check(c.TLS || c.SASL != saslPlain, "SASL plain sends the password as it is: it needs TLS")
	default:
		check(false, fmt.Sprintf("SASL mechanism %q is none of plain, scram-sha-256 and scram-sha-512", c.SASL))
	}
	return errors.Join(problems...)
}

// CheckFiles reads the files that the configuration names and says what is wrong with them.
func (c *Config) CheckFiles() error {
	_, err := c.options()
	return err
}

// options are those of the client library that the configuration decides.
func (c *Config) options() ([]kgo.Opt, error) {
	options := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.DefaultProduceTopic(c.Topic)}
	if c.TLS {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pem, err := os.ReadFile(c.CAFile)
			if err != nil {
				return nil, fmt.Errorf("kafka: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("kafka: %s holds no certificate", c.CAFile)
			}
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if c.SASL != "" {
		password, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		options = append(options, kgo.SASL(c.mechanism(strings.TrimRight(string(password), "\r\n"))))
	}
	return options, nil
}

func (c *Config) mechanism(password string) sasl.Mechanism {
	switch c.SASL {
	case saslSCRAM256:
		return scram.Auth{User: c.User, Pass: password}.AsSha256Mechanism()
	case saslSCRAM512:
		return scram.Auth{User: c.User, Pass: password}.AsSha512Mechanism()
	default:
		return plain.Auth{User: c.User, Pass: password}.AsMechanism()
	}
}
