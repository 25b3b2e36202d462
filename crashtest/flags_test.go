package crashtest_test

import "flag"

var (
	killsFlag = flag.Int("kills", 20, "SIGKILLs of the server under load")
	cutsFlag  = flag.Int("cuts", 30, "power cuts")
	seedFlag  = flag.Uint64("seed", 0, "seed of the random choices; 0 takes a random one")
)
