// Package machine describes the machine that a benchmark runs on: what it is (the fingerprint), how fast its disk makes
// a write durable (the fdatasync probe; the append probe for a load's own batches), and how much of its CPU the host took away meanwhile (steal time). Without
// these no latency figure can be compared with another.
//
// Nothing here starts a goroutine.
package machine
