package scenarios

import (
	"fmt"
	"maps"

	"github.com/ingestor-project/ingestor/results"
)

// Variant is the scenario with other settings of the server. The first one is what the others are compared with.
type Variant struct {
	Name   string         `yaml:"name"`
	Server map[string]any `yaml:"server"`
}

// Variations are the scenarios to run in the place of s: one for each variant, and the first variant a second time under the name
// results.VariantAgain, whose difference from itself is the noise floor. It has no objectives. A scenario without variants is its own
// only variation.
func (s *Scenario) Variations() []*Scenario {
	if len(s.Variants) == 0 {
		return []*Scenario{s}
	}
	var list []*Scenario
	for _, variant := range append(s.Variants[:len(s.Variants):len(s.Variants)], Variant{results.VariantAgain, s.Variants[0].Server}) {
		of := *s
		of.Name, of.Group, of.Variant, of.Variants = s.Name+"/"+variant.Name, s.Name, variant.Name, nil
		of.Server = merge(s.Server, variant.Server)
		if variant.Name == results.VariantAgain {
			of.Objectives = nil
		}
		list = append(list, &of)
	}
	return list
}

// merge puts settings over others, key by key; neither is changed.
func merge(under, over map[string]any) map[string]any {
	merged := maps.Clone(under)
	if merged == nil {
		merged = make(map[string]any)
	}
	for key, value := range over {
		below, isMap := merged[key].(map[string]any)
		above, overMap := value.(map[string]any)
		if isMap && overMap {
			value = merge(below, above)
		}
		merged[key] = value
	}
	return merged
}

func (d *document) checkVariants(s *Scenario) {
	seen := make(map[string]bool)
	for i, variant := range s.Variants {
		at := []string{"variants", fmt.Sprint(i), "name"}
		switch {
		case variant.Name == results.VariantAgain:
			d.report(at, "%q is what the first variant is called when it runs a second time; choose another name", variant.Name)
		case seen[variant.Name]:
			d.report(at, "there is another variant %q", variant.Name)
		}
		seen[variant.Name] = true
	}
}
