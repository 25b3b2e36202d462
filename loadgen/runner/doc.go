// Package runner carries out scenarios. Each repetition has a fresh data directory and a server of its own. It puts the load on
// it, does to it meanwhile what the scenario says, and ends it, by SIGTERM or by a kill. Then it takes the ceilings that the
// scenario wants to be compared with, starts the server again where its log still holds what must be flushed, and calls the
// judge, who reads back everything that is stored. It hands figures to package results, which judges them.
//
// # Goroutines
//
// During the load a repetition has one goroutine beside those of the engine: the conductor, which resets the server's
// stage histograms at the end of the warm-up, carries out the scenario's actions, and notices when the server ends by
// itself. It is joined before the repetition goes on. The engine's progress callback takes the samples of the timeline. While
// a server that was started again flushes its log, another goroutine watches its memory; it is joined likewise.
//
// # Ends
//
// When the context ends, the load stops, the server is drained, and what was finished until then is judged and returned.
// What the server does wrong is part of the result. An error means that the benchmark itself could not do its work.
package runner
