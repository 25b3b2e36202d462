package machine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Throttling is what the kernel and the processor have held back since boot.
type Throttling struct {
	// CPU is the time for which the bandwidth limits of this process's control group, or of one above it, kept its threads from
	// running; cores that were throttled at the same time count each.
	CPU time.Duration
	// ThermalEvents counts how often cores slowed down because of heat; 0 where the processor does not tell, as in most virtual machines.
	ThermalEvents int64
}

// Since is what has been added since earlier.
func (t Throttling) Since(earlier Throttling) Throttling {
	return Throttling{CPU: t.CPU - earlier.CPU, ThermalEvents: t.ThermalEvents - earlier.ThermalEvents}
}

// ReadThrottling reads the limits' counters of this process. What the machine does not have counts as nothing.
func ReadThrottling() (Throttling, error) { return readThrottling(os.DirFS("/")) }

// readThrottling reads from the root of a file system. /proc/self/cgroup has lines "id:controllers:path"; with cgroup v2 there is one
// with the ID 0 and no controllers (cgroups(7)). Throttled time stands in the file cpu.stat of every group with the cpu controller: in
// microseconds as throttled_usec with v2, in nanoseconds as throttled_time with v1.
func readThrottling(root fs.FS) (Throttling, error) {
	var found Throttling
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, key, unit := "sys/fs/cgroup/"+fields[1], "throttled_time", time.Nanosecond
		switch {
		case fields[0] == "0" && fields[1] == "":
			mount, key, unit = "sys/fs/cgroup", "throttled_usec", time.Microsecond
		case !strings.Contains(","+fields[1]+",", ",cpu,"):
			continue
		}
		// A limit may be set on any group on the way up; the highest count is the one that binds.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			count, err := readCounter(root, path.Join(mount, group, "cpu.stat"), key)
			if err != nil {
				return found, err
			}
			found.CPU = max(found.CPU, time.Duration(count)*unit)
			if group == "/" {
				break
			}
		}
	}
	cores, err := fs.Glob(root, "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
	if err != nil {
		return found, err
	}
	for _, core := range cores {
		content, err := fs.ReadFile(root, core)
		if err != nil {
			return found, err
		}
		count, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err != nil {
			return found, fmt.Errorf("/%s: %w", core, err)
		}
		found.ThermalEvents += count
	}
	return found, nil
}

// readCounter returns the number behind a key in a file of lines "key number"; 0 where there is no such file or key.
func readCounter(root fs.FS, name, key string) (int64, error) {
	content, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key+" "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, lines.Err()
}
