package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/ingestor-project/ingestor/crashtest/powercut"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
)

// target is a kind of file or directory in a data directory.
type target struct {
	name  string
	match func(path string) bool
}

func pattern(name, glob string) target {
	return target{name, func(p string) bool {
		_, below, _ := strings.Cut(p, "/") // the data directory itself
		ok, err := path.Match(glob, below)
		return ok && err == nil
	}}
}

// The targets, as the documentation of the data directory names them.
var (
	dataDirectory     = pattern("data directory", "")
	segment           = pattern("segment", "wal/*.wal")
	spare             = pattern("spare", "wal/spare-*.tmp")
	logDirectory      = pattern("directory of the log", "wal")
	manifestFile      = pattern("manifest", "manifest/MANIFEST.jsonl")
	newManifest       = pattern("new manifest", "manifest/MANIFEST.jsonl.tmp")
	manifestDirectory = pattern("directory of the manifest", "manifest")
	dedupeSnapshot    = pattern("dedupe snapshot", "manifest/dedupe-*")
	parquetFile       = target{"Parquet file", func(p string) bool { return strings.Contains(p, "/parquet/") && strings.Contains(p, ".parquet") }}
	parquetDirectory  = target{"directory of Parquet files", func(p string) bool {
		return (strings.HasSuffix(p, "/parquet") || strings.Contains(p, "/parquet/")) && !strings.Contains(p, ".parquet")
	}}
)

// outcome is what a fault must lead to.
type outcome int

const (
	ends    outcome = iota // the server ends with a code that says that it is not to be started blindly
	mayEnd                 // it ends like that, or goes on and takes writes
	goesOn                 // it goes on and takes writes
	slowest                // the power goes while the operation is under way
)

// FaultCase is one thing that goes wrong under load.
type FaultCase struct {
	target target
	op     powercut.Op
	errno  syscall.Errno
	short  bool
	// starting: it goes wrong during a start.
	starting bool
	then     outcome
}

func (f FaultCase) String() string {
	what := "slow"
	switch {
	case f.short:
		what = "short"
	case f.errno != 0:
		what = map[syscall.Errno]string{syscall.EIO: "EIO", syscall.EINTR: "EINTR"}[f.errno]
	}
	text := fmt.Sprintf("%s %s of a %s", what, f.op, f.target.name)
	if f.starting {
		text += " during a start"
	}
	return text
}

// often is how many such operations a second or two of load have for certain.
func (f FaultCase) often() int {
	switch file := f.target.name; {
	case f.starting:
		return 1
	case file == segment.name && (f.op == powercut.Write || f.op == powercut.Sync):
		return 30
	case file == manifestFile.name && f.op != powercut.Resize, file == parquetFile.name:
		return 3
	}
	return 1
}

// FaultCases are all that are known, in a fixed order.
func FaultCases() []FaultCase {
	var cases []FaultCase
	add := func(t target, then outcome, ops ...powercut.Op) {
		for _, op := range ops {
			cases = append(cases, FaultCase{target: t, op: op, errno: syscall.EIO, then: then})
		}
	}
	add(segment, ends, powercut.Write, powercut.Sync, powercut.Rename)
	add(logDirectory, ends, powercut.SyncDir)
	add(spare, mayEnd, powercut.Create, powercut.Write, powercut.Sync, powercut.Rename, powercut.Resize)
	add(manifestFile, ends, powercut.Write, powercut.Sync)
	add(manifestFile, mayEnd, powercut.Resize)
	add(dedupeSnapshot, mayEnd, powercut.Create, powercut.Write, powercut.Sync, powercut.Remove)
	add(manifestDirectory, mayEnd, powercut.SyncDir)
	add(parquetFile, mayEnd, powercut.Create, powercut.Write, powercut.Sync, powercut.Rename)
	add(parquetDirectory, mayEnd, powercut.SyncDir)
	for _, f := range []FaultCase{
		{target: segment, op: powercut.Sync}, {target: logDirectory, op: powercut.SyncDir},
		{target: newManifest, op: powercut.Create}, {target: newManifest, op: powercut.Write}, {target: newManifest, op: powercut.Sync},
		{target: manifestFile, op: powercut.Rename}, {target: manifestDirectory, op: powercut.SyncDir},
		{target: dataDirectory, op: powercut.SyncDir},
	} {
		f.errno, f.starting, f.then = syscall.EIO, true, mayEnd
		cases = append(cases, f)
	}
	for _, t := range []target{segment, manifestFile, parquetFile} {
		cases = append(cases,
			FaultCase{target: t, op: powercut.Write, errno: syscall.EINTR, then: goesOn},
			FaultCase{target: t, op: powercut.Sync, errno: syscall.EINTR, then: goesOn},
			FaultCase{target: t, op: powercut.Write, short: true, then: goesOn},
			FaultCase{target: t, op: powercut.Sync, then: slowest})
	}
	for _, t := range []target{logDirectory, parquetDirectory} {
		cases = append(cases,
			FaultCase{target: t, op: powercut.SyncDir, errno: syscall.EINTR, then: goesOn},
			FaultCase{target: t, op: powercut.SyncDir, then: slowest})
	}
	return append(cases, FaultCase{target: segment, op: powercut.Rename, errno: syscall.EINTR, then: goesOn})
}

const (
	// faultPatience bounds the wait for an operation that a fault is meant for. Some come with luck only.
	faultPatience = 4 * time.Second
	// endPatience bounds the wait for the end of a server that must end.
	endPatience = time.Minute
	// slowSync is how long a slow operation would take; the power goes before it is over.
	slowSync = 3 * time.Second
	// goesOnAcks is how many batches a server that goes on after a fault must ack.
	goesOnAcks = 10
)

// The exit codes with which a server may end after a fault.
const (
	exitError = 1
	exitSink  = 5
)

// Suffer lets something go wrong under load, and takes the power away afterwards. It tells whether the fault found its operation.
func (p *Power) Suffer(c *Campaign, f FaultCase) (hit bool, err error) {
	fault := powercut.Fault{
		Op: f.op, Match: f.target.match, N: 1 + c.Rng.IntN(f.often()), Errno: f.errno, Short: f.short, Seed: c.Rng.Uint64(),
	}
	if f.then == slowest {
		fault.Delay = slowSync
	}
	var injection *powercut.Injection
	if f.starting {
		injection, err = p.sufferStart(c, fault)
	} else {
		injection, err = p.sufferLoad(c, f, fault)
	}
	if err != nil {
		return false, fmt.Errorf("%s (%s): %w", f, where(injection), err)
	}
	select {
	case <-injection.Hit():
		hit = true
	default:
	}
	p.Disk.Clear()
	return hit, p.CutNow(c)
}

// where names the file that a fault has hit.
func where(i *powercut.Injection) string {
	if i == nil {
		return "not injected"
	}
	select {
	case <-i.Hit():
		return i.Path()
	default:
		return "not hit"
	}
}

// sufferLoad injects a fault into a server under load and sees what it does.
func (p *Power) sufferLoad(c *Campaign, f FaultCase, fault powercut.Fault) (*powercut.Injection, error) {
	if err := c.awaitAgain(); err != nil {
		return nil, err
	}
	injection := p.Disk.Inject(fault)
	timer := time.NewTimer(faultPatience)
	defer timer.Stop()
	select {
	case <-injection.Hit():
	case <-timer.C:
		return injection, nil
	case <-c.server.Ended():
		// It has ended before we saw that the fault had hit; if it has not hit, this is an end without a cause.
		select {
		case <-injection.Hit():
		default:
			return injection, c.endedByItself()
		}
	}
	switch f.then {
	case ends:
		ctx, cancel := context.WithTimeout(context.Background(), endPatience)
		defer cancel()
		if _, err := c.server.Wait(ctx); err != nil {
			return injection, fmt.Errorf("the server goes on: %w\n%s", err, c.server.LogTail())
		}
		return injection, p.checkEnd(c, exitPoisoned)
	case slowest:
		timer := time.NewTimer(time.Duration(c.Rng.Int64N(int64(slowSync) / 2)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.server.Ended():
			return injection, c.endedByItself()
		}
		return injection, nil
	}
	err := c.AwaitAcks(goesOnAcks)
	if err == nil || f.then == goesOn || c.server.Running() {
		return injection, err
	}
	return injection, p.checkEnd(c, exitPoisoned, exitSink)
}

// checkEnd says whether the server has ended with one of some codes.
func (p *Power) checkEnd(c *Campaign, codes ...int) error {
	status, err := c.server.Wait(context.Background())
	if err != nil {
		return err
	}
	for _, code := range codes {
		if status.Code == code {
			return nil
		}
	}
	return fmt.Errorf("the server ended with %v; allowed are the codes %v\n%s", status, codes, c.server.LogTail())
}

// sufferStart injects a fault into a start.
func (p *Power) sufferStart(c *Campaign, fault powercut.Fault) (*powercut.Injection, error) {
	status, err := c.server.Kill()
	if err == nil {
		err = killed(status, c.server)
	}
	if err != nil {
		return nil, err
	}
	injection := p.Disk.Inject(fault)
	var failed *serverproc.StartError
	switch err := c.restart(context.Background()); {
	case err == nil:
		return injection, nil
	case !errors.As(err, &failed) || !failed.Exited:
		return injection, err
	}
	// It must not call the data damaged: nothing of it is.
	return injection, p.checkEnd(c, exitError, exitPoisoned, exitSink)
}

// CutNow takes the power away from a server that runs or has ended, and turns it on again.
func (p *Power) CutNow(c *Campaign) error {
	p.Disk.CutNow()
	if err := p.killInTheDark(c); err != nil {
		return err
	}
	return p.powerOn(c)
}

// SlowLog makes every sync of the log take so long, until Disk.Clear.
func (p *Power) SlowLog(delay time.Duration) {
	p.Disk.Inject(powercut.Fault{Op: powercut.Sync, Match: segment.match, Times: math.MaxInt, Delay: delay})
}

// FailLog lets the next sync of the log fail, after a time.
func (p *Power) FailLog(delay time.Duration) *powercut.Injection {
	return p.Disk.Inject(powercut.Fault{Op: powercut.Sync, Match: segment.match, Delay: delay, Errno: syscall.EIO})
}
