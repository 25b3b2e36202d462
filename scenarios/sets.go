package scenarios

import (
	"slices"
)

// DefaultSet is the set that `bench run` carries out where nothing is named.
const DefaultSet = "default"

// set is a group of shipped scenarios that run together.
type set struct {
	name, directory string
	// scenarios are in the order in which they run.
	scenarios []string
}

var sets = []set{
	{DefaultSet, ".", []string{
		"smoke", "ingest-1m", "unary-latency", "burst", "many-tenants", "noisy-neighbour", "crash-recovery", "replay-recorded", "metrics-timescale",
	}},
	{"hot", "hot", []string{
		"max-rows", "max-rows-live", "max-columns", "max-columns-live", "max-rows-100", "max-rows-1", "max-unary", "one-caller",
		"fixed-1m", "many-tenants-max", "recovery-10g",
	}},
	{"sustained", "sustained", []string{"fixed-1m-flush"}},
}

// SetNames lists the sets.
func SetNames() []string {
	var names []string
	for _, s := range sets {
		names = append(names, s.name)
	}
	return names
}

// Set lists the scenarios of a set in the order in which they run; nil where there is no such set.
func Set(name string) []string {
	for _, s := range sets {
		if s.name == name {
			return slices.Clone(s.scenarios)
		}
	}
	return nil
}

// Names lists the default set.
func Names() []string { return Set(DefaultSet) }

// allNames lists the shipped scenarios of all sets.
func allNames() []string {
	var names []string
	for _, s := range sets {
		names = append(names, s.scenarios...)
	}
	return names
}

// directoryOf is where the shipped scenario of that name lies; the top where there is none.
func directoryOf(name string) string {
	for _, s := range sets {
		if slices.Contains(s.scenarios, name) {
			return s.directory
		}
	}
	return "."
}
