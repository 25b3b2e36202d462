package retention

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Policy says how long rows are kept. Zero means for ever.
type Policy struct {
	// Default is for tenants that Tenants does not name.
	Default time.Duration
	Tenants map[string]time.Duration
}

// ParseTenants reads "TENANT=DURATION" words; a duration of 0 keeps for ever. The tenant may hold "=".
func ParseTenants(words []string) (map[string]time.Duration, error) {
	tenants := make(map[string]time.Duration, len(words))
	for _, word := range words {
		at := strings.LastIndexByte(word, '=')
		if at < 1 {
			return nil, fmt.Errorf("%q is not of the form TENANT=DURATION", word)
		}
		tenant := word[:at]
		kept, err := time.ParseDuration(word[at+1:])
		if err != nil || kept < 0 {
			return nil, fmt.Errorf("%q: %q is not a duration such as 720h", word, word[at+1:])
		}
		if _, twice := tenants[tenant]; twice {
			return nil, fmt.Errorf("tenant %q is named twice", tenant)
		}
		tenants[tenant] = kept
	}
	return tenants, nil
}

// Enabled tells whether anything is ever removed.
func (p Policy) Enabled() bool {
	return p.Default > 0 || slices.ContainsFunc(slices.Collect(maps.Values(p.Tenants)), func(d time.Duration) bool { return d > 0 })
}

// Cutoffs are a Policy at a moment: everything before a tenant's cutoff is to be removed.
type Cutoffs struct {
	// Default is nil where tenants that are not named keep everything.
	Default *time.Time
	// Tenants holds nil for a tenant that keeps everything.
	Tenants map[string]*time.Time
}

// At returns the cutoffs as of now.
func (p Policy) At(now time.Time) Cutoffs {
	cutoff := func(kept time.Duration) *time.Time {
		if kept <= 0 {
			return nil
		}
		at := now.Add(-kept)
		return &at
	}
	c := Cutoffs{Default: cutoff(p.Default), Tenants: make(map[string]*time.Time, len(p.Tenants))}
	for tenant, kept := range p.Tenants {
		c.Tenants[tenant] = cutoff(kept)
	}
	return c
}

// Of returns a tenant's cutoff; nil where it keeps everything.
func (c Cutoffs) Of(tenant string) *time.Time {
	if at, named := c.Tenants[tenant]; named {
		return at
	}
	return c.Default
}

// Earliest is the moment before which no tenant keeps anything; nil where some tenant keeps everything.
func (c Cutoffs) Earliest() *time.Time {
	earliest := c.Default
	for _, at := range c.Tenants {
		if at == nil || earliest == nil {
			return nil
		}
		if at.Before(*earliest) {
			earliest = at
		}
	}
	return earliest
}
