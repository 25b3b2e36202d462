package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const segmentBytes = 64 << 20

var workloads = []workload{
	{callers: 1, records: 1, segmentBytes: segmentBytes}, {callers: 1, records: 1000, segmentBytes: segmentBytes},
	{callers: 64, records: 1, segmentBytes: segmentBytes}, {callers: 64, records: 1000, segmentBytes: segmentBytes},
}

func main() {
	dir := flag.String("dir", os.TempDir(), "directory on the disk to measure")
	rounds := flag.Int("rounds", 5, "rounds; the figures are medians")
	duration := flag.Duration("time", time.Second, "time for each peer in each round")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || *duration <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(os.Stdout, *dir, *rounds, *duration); err != nil {
		fmt.Fprintln(os.Stderr, "walpeers:", err)
		os.Exit(1)
	}
}

// run measures and prints all workloads.
func run(out io.Writer, dir string, rounds int, duration time.Duration) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is on tmpfs, where a sync does nothing: name a directory on a disk with -dir", dir)
	}
	for _, w := range workloads {
		samples := make([][]sample, len(peers))
		for round := range rounds {
			for i := range peers {
				at := (round + i) % len(peers)
				s, err := measure(&peers[at], dir, w, duration)
				if err != nil {
					return err
				}
				samples[at] = append(samples[at], s)
			}
		}
		report(out, w, samples)
	}
	return nil
}

// report prints one workload. The first peer is the one that the others are compared with.
func report(out io.Writer, w workload, samples [][]sample) {
	fmt.Fprintf(out, "%d callers x %d records of %d bytes, median of %d rounds\n", w.callers, w.records, recordBytes, len(samples[0]))
	fmt.Fprintf(out, "%-12s %12s %9s %11s %11s %10s\n", "peer", "records/s", "syncs", "append p50", "append p99", "wal / peer")
	first := summary(samples[0])
	for i := range peers {
		s := summary(samples[i])
		fmt.Fprintf(out, "%-12s %12.0f %9d %11v %11v %10.2f\n", peers[i].name, s.recordsPerSecond, s.syncs,
			s.p50.Round(time.Microsecond), s.p99.Round(time.Microsecond), first.recordsPerSecond/s.recordsPerSecond)
	}
	fmt.Fprintln(out)
}
