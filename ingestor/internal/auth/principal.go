package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxNameBytes bounds a tenant's and an endpoint pattern's name, as the protocol bounds endpoint_id.
const maxNameBytes = 255

// Principal is who a call acts for. It is immutable and safe for concurrent use.
type Principal struct {
	// Tenant owns whatever the call writes. Never empty.
	Tenant string
	// Subject names the credential for logs and metrics: the id of an API key, or the subject of a JWT. It is no secret.
	Subject string

	all      bool
	exact    map[string]struct{}
	prefixes []string
}

// NewPrincipal returns a Principal that may write to the endpoints that match one of patterns. A pattern is an endpoint's
// exact name or a prefix followed by "*"; "*" alone matches every endpoint. No pattern means no endpoint.
func NewPrincipal(tenant, subject string, patterns []string) (*Principal, error) {
	if err := checkName(tenant); err != nil {
		return nil, fmt.Errorf("tenant: %w", err)
	}
	p := &Principal{Tenant: tenant, Subject: subject, exact: make(map[string]struct{}, len(patterns))}
	for i, pattern := range patterns {
		if err := checkName(pattern); err != nil {
			return nil, fmt.Errorf("endpoint pattern %d: %w", i, err)
		}
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		switch {
		case strings.Contains(prefix, "*"):
			return nil, fmt.Errorf("endpoint pattern %d: * is allowed at the end only", i)
		case !isPrefix:
			p.exact[pattern] = struct{}{}
		case prefix == "":
			p.all = true
		default:
			p.prefixes = append(p.prefixes, prefix)
		}
	}
	return p, nil
}

// MayWrite tells whether the principal may write to endpoint. It does not allocate.
func (p *Principal) MayWrite(endpoint string) bool {
	if p.all {
		return endpoint != ""
	}
	if _, ok := p.exact[endpoint]; ok {
		return true
	}
	for _, prefix := range p.prefixes {
		if strings.HasPrefix(endpoint, prefix) {
			return true
		}
	}
	return false
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("must not be empty")
	case len(name) > maxNameBytes:
		return fmt.Errorf("longer than %d bytes", maxNameBytes)
	case !utf8.ValidString(name):
		return errors.New("not valid UTF-8")
	case strings.IndexByte(name, 0) >= 0:
		return errors.New("holds a NUL character, which a database cannot store as text")
	}
	return nil
}

type contextKey struct{}

// NewContext returns a context that carries the principal.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the principal of a call. ok is false where no interceptor of this package has run.
func FromContext(ctx context.Context) (p *Principal, ok bool) {
	p, ok = ctx.Value(contextKey{}).(*Principal)
	return p, ok
}
