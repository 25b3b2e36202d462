package machine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/stat, fixed at 100 in the Linux ABI.
const ticksPerSecond = 100

// CPUTimes are ticks of all cores since boot.
type CPUTimes struct {
	Total, Steal uint64
	// Busy is what processes and the kernel used, without idling, waiting for the disk and steal.
	Busy uint64
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
	const idle, ioWait, steal, columns = 4, 5, 8, 8
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
		switch i {
		case idle, ioWait:
		case steal:
			times.Steal = ticks
		default:
			times.Busy += ticks
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

// BusySince is the CPU time that was used since earlier, on all cores together.
func (t CPUTimes) BusySince(earlier CPUTimes) time.Duration {
	return time.Duration(t.Busy-earlier.Busy) * time.Second / ticksPerSecond
}
