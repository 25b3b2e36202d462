package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ingestor-project/ingestor/results"
)

// ErrVolatile is returned for a directory whose file system lives in memory: nothing on it survives a power cut, so no
// figure from it is a figure of durable writes.
var ErrVolatile = errors.New("the directory is on a file system in memory (tmpfs or ramfs); durable figures need a disk")

// CheckDurable returns ErrVolatile where dir, which must exist, is on a file system in memory.
func CheckDurable(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC {
		return fmt.Errorf("%s: %w", dir, ErrVolatile)
	}
	return nil
}

// Fingerprint describes this machine and the device behind dir, without the figures that are measured during a run.
func Fingerprint(dir string) (results.Environment, error) {
	env := results.Environment{OS: operatingSystem(), CPUModel: cpuModel(), Cores: runtime.NumCPU(), GoVersion: runtime.Version()}
	env.Commit, env.CommitDirty = commit()

	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return env, err
	}
	env.Kernel = unix.ByteSliceToString(name.Release[:])
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return env, err
	}
	env.MemoryBytes = int64(info.Totalram) * int64(info.Unit)

	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return env, err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return env, err
	}
	env.Device, env.FileSystem = mountOf(string(mounts), absolute)
	return env, nil
}

// mountOf finds the device and type of the mount with the longest mount point that holds path; a later mount hides an earlier one.
func mountOf(mounts, path string) (device, fileSystem string) {
	longest := 0
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		point := fields[1]
		inside := point == "/" || path == point || strings.HasPrefix(path, point+"/")
		if inside && len(point) >= longest {
			device, fileSystem, longest = fields[0], fields[2], len(point)
		}
	}
	return device, fileSystem
}

func cpuModel() string {
	return firstField("/proc/cpuinfo", "model name", ":", runtime.GOARCH)
}

func operatingSystem() string {
	return strings.Trim(firstField("/etc/os-release", "PRETTY_NAME", "=", runtime.GOOS), `"`)
}

// firstField returns the value of the first "name<separator>value" line, or the fallback.
func firstField(path, name, separator, fallback string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return fallback
	}
	for line := range strings.Lines(string(content)) {
		key, value, found := strings.Cut(line, separator)
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return fallback
}

// commit asks git first, because it knows of changes made after the build, then the build information of this program.
func commit() (revision string, dirty bool) {
	if head, err := exec.Command("git", "rev-parse", "HEAD").Output(); err == nil {
		status, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output()
		return strings.TrimSpace(string(head)), err != nil || len(status) > 0
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", false
	}
	revision = "unknown"
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			revision = setting.Value
		case "vcs.modified":
			dirty = setting.Value == "true"
		}
	}
	return revision, dirty
}
