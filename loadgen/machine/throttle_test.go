package machine

import (
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadThrottling(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tests := []struct {
		name string
		root fstest.MapFS
		want Throttling
	}{
		{"nothing to read", fstest.MapFS{}, Throttling{}},
		{"version 2, limited above", fstest.MapFS{
			"proc/self/cgroup":                   file("0::/box/inner\n"),
			"sys/fs/cgroup/box/inner/cpu.stat":   file("usage_usec 99\nnr_throttled 0\nthrottled_usec 0\n"),
			"sys/fs/cgroup/box/cpu.stat":         file("usage_usec 99\nnr_throttled 4\nthrottled_usec 2500\n"),
			"sys/fs/cgroup/elsewhere/cpu.stat":   file("throttled_usec 777777\n"),
			"sys/fs/cgroup/box/inner/memory.max": file("max\n"),
		}, Throttling{CPU: 2500 * time.Microsecond}},
		{"version 1, beside a root of version 2", fstest.MapFS{
			"proc/self/cgroup":                       file("5:memory:/box\n2:cpu,cpuacct:/box\n0::/\n"),
			"sys/fs/cgroup/cpu,cpuacct/box/cpu.stat": file("nr_periods 9\nnr_throttled 1\nthrottled_time 30000000\n"),
			"sys/fs/cgroup/memory/box/cpu.stat":      file("throttled_time 1\n"),
		}, Throttling{CPU: 30 * time.Millisecond}},
		{"heat", fstest.MapFS{
			"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": file("3\n"),
			"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": file("4\n"),
		}, Throttling{ThermalEvents: 7}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readThrottling(test.root)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
	_, err := readThrottling(fstest.MapFS{"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": file("hot\n")})
	require.Error(t, err)
	_, err = ReadThrottling()
	require.NoError(t, err)
}
