package machine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTimes are ticks of all cores since boot.
type CPUTimes struct {
	Total, Steal uint64
}

// ReadCPUTimes reads /proc/stat.
func ReadCPUTimes() (CPUTimes, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPUTimes{}, err
	}
	return parseCPUTimes(string(content))
}

// parseCPUTimes reads the first line: "cpu user nice system idle iowait irq softirq steal guest guest_nice". Guest time is
// contained in user time.
func parseCPUTimes(stat string) (CPUTimes, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	const steal, columns = 8, 8
	if len(fields) <= columns || fields[0] != "cpu" {
		return CPUTimes{}, errors.New("/proc/stat: unexpected format")
	}
	var times CPUTimes
	for i := 1; i <= columns; i++ {
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return CPUTimes{}, fmt.Errorf("/proc/stat: %w", err)
		}
		times.Total += ticks
		if i == steal {
			times.Steal = ticks
		}
	}
	return times, nil
}

// StealPctSince is the share of the CPU time since earlier that the host took away, in percent.
func (t CPUTimes) StealPctSince(earlier CPUTimes) float64 {
	if t.Total <= earlier.Total {
		return 0
	}
	return 100 * float64(t.Steal-earlier.Steal) / float64(t.Total-earlier.Total)
}

// OwnCPU is the user and system time of this process so far.
func OwnCPU() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
