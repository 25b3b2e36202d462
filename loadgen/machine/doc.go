// Package machine describes the machine that a benchmark runs on: what it is (the fingerprint), how fast its disk makes
// a write durable (the fdatasync probe; the append probe for batches of a load; the read probe for files of its log), and how
// much of its CPU the host took away meanwhile (steal time). Without these no latency figure can be compared with another.
//
// Nothing here starts a goroutine.
package machine
