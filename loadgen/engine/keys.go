package engine

import (
	"math"
	"sort"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// keys draws the (tenant, endpoint) of each hit from a Zipf distribution: the pair of rank r has a weight of 1/r^skew.
// Ranks go round the tenants, so that the busiest pairs belong to different tenants.
type keys struct {
	tenants, endpoints int
	seed               uint64
	cumulative         []float64 // of the weights by rank, the last is their sum
}

func newKeys(tenants, endpoints int, skew float64, seed uint64) *keys {
	k := &keys{tenants: tenants, endpoints: endpoints, seed: seed ^ 0x6b657973}
	sum := 0.0
	for rank := range tenants * endpoints {
		sum += math.Pow(float64(rank+1), -skew)
		k.cumulative = append(k.cumulative, sum)
	}
	return k
}

// at returns the key of a hit. It may be called concurrently.
func (k *keys) at(hit uint64) (tenant, endpoint int) {
	target := record.Uniform(k.seed, hit) * k.cumulative[len(k.cumulative)-1]
	rank := min(sort.SearchFloat64s(k.cumulative, target), len(k.cumulative)-1)
	return rank % k.tenants, rank / k.tenants
}
