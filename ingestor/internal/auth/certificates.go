package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSConfig names the server's certificate files (PEM). The zero value means no TLS.
type TLSConfig struct {
	CertFile, KeyFile string
	// ClientCAFile, where set, makes every client present a certificate that one of these authorities has signed. That
	// is in addition to its credential, not in place of it.
	ClientCAFile string
}

// Enabled tells whether TLS is configured.
func (c *TLSConfig) Enabled() bool {
	return *c != TLSConfig{}
}

// Validate says what is missing.
func (c *TLSConfig) Validate() error {
	if c.Enabled() && (c.CertFile == "" || c.KeyFile == "") {
		return errors.New("tls: cert_file and key_file are both required")
	}
	return nil
}

func (c *TLSConfig) read() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2"},
		// A resumed session would outlive the client authorities it was made under.
		SessionTicketsDisabled: true,
	}
	if c.ClientCAFile == "" {
		return config, nil
	}
	authorities, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca_file: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("tls.client_ca_file: no certificate in %s", c.ClientCAFile)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
