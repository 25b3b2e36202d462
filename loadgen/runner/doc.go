// Package runner carries out scenarios: for each repetition a fresh data directory, a server of its own, the load, what
// the scenario does to the server meanwhile, a drain by SIGTERM, and then the judge, who reads back everything that
// is stored. It hands figures to package results, which judges them.
//
// # Goroutines
//
// During the load a repetition has one goroutine beside those of the engine: the conductor, which resets the server's
// stage histograms at the end of the warm-up, carries out the scenario's actions, and notices when the server ends by
// itself. It is joined before the repetition goes on. The engine's progress callback takes the samples of the timeline.
//
// # Ends
//
// When the context ends, the load stops, the server is drained, and what was finished until then is judged and returned.
// What the server does wrong is part of the result. An error means that the benchmark itself could not do its work.
package runner
