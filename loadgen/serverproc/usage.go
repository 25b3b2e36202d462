package serverproc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has cost so far.
type Usage struct {
	// CPU is user and system time.
	CPU time.Duration
	// RSSBytes is resident memory now, RSSPeakBytes at its highest.
	RSSBytes, RSSPeakBytes int64
	// WriteBytes is what the process caused to be sent to the storage layer. 0 where the kernel does not tell.
	WriteBytes int64
}

// clockTicksPerSecond is the unit of /proc/PID/stat, fixed at 100 in the Linux ABI.
const clockTicksPerSecond = 100

// Usage reads what the server process has cost in its present life.
func (s *Server) Usage() (Usage, error) {
	life, listen := s.now()
	if !life.running() || listen.PID == 0 {
		return Usage{}, ErrNotRunning
	}
	return ProcessUsage(listen.PID)
}

// ProcessUsage reads what a process has cost from /proc.
func ProcessUsage(pid int) (Usage, error) {
	var usage Usage
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage, err
	}
	if usage.CPU, err = cpuTime(stat); err != nil {
		return usage, fmt.Errorf("%s/stat: %w", dir, err)
	}
	status, err := readFields(dir + "/status")
	if err != nil {
		return usage, err
	}
	usage.RSSBytes = status["VmRSS"] * 1024
	usage.RSSPeakBytes = status["VmHWM"] * 1024
	io, err := readFields(dir + "/io")
	if err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			return usage, nil
		}
		return usage, err
	}
	usage.WriteBytes = io["write_bytes"]
	return usage, nil
}

// cpuTime takes utime and stime, fields 14 and 15, from a stat line. The command name in field 2 may hold spaces and
// parentheses, so fields are counted from its closing one.
func cpuTime(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	const user, system = 14 - 3, 15 - 3
	if end < 0 || len(fields) <= system {
		return 0, errors.New("unexpected format")
	}
	ticks := int64(0)
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicksPerSecond, nil
}

// readFields reads "Name: number unit" lines; lines without a number are left out.
func readFields(path string) (map[string]int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]int64)
	for line := range strings.Lines(string(content)) {
		name, rest, found := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if !found || len(words) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
			fields[name] = n
		}
	}
	return fields, nil
}
