// Package telemetry is how the server shows what it does: latency histograms of each stage of a batch's path, the
// Prometheus registry's page, health and readiness, and the profiler, all on the admin port.
//
// Stage histograms are HdrHistograms (three significant digits, 1 ns to 100 s), because the figures that matter here, a p99
// below a millisecond, would vanish between the buckets of a Prometheus histogram. A benchmark resets them after its
// warm-up and fetches them at its end, so that it reports what the server measured and not what the client guessed.
package telemetry
