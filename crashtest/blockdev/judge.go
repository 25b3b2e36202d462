package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ingestor-project/ingestor/crashtest/traffic"
	"github.com/ingestor-project/ingestor/loadgen/serverproc"
	"github.com/ingestor-project/ingestor/loadgen/verify"
)

// Violation is a broken promise: of the server, or of the file system on a device that is sound.
type Violation struct {
	Moment string
	Choice Choice
	Stage  string
	Err    error
}

func (v *Violation) Error() string {
	return fmt.Sprintf("after a cut %s that left %s: %s: %v", v.Moment, v.Choice, v.Stage, v.Err)
}

func (v *Violation) Unwrap() error { return v.Err }

// Outcome is what became of a state that was judged.
type Outcome struct {
	Tally
	// Acked is how many records had been acked before the cut, and are there.
	Acked uint64
	// Recovering is a moment at which the power might have gone again while the state was being recovered; nil where recovery was over sooner.
	Recovering *Moment
}

// recoveryRequests is among how many requests from the mount on the second cut is placed.
const recoveryRequests = 80

// Judge makes a state of a moment, lets kernel and server recover it, and compares what is then stored with what the clients knew. A broken
// promise is a *Violation.
func (t *Trial) Judge(ctx context.Context, m *Moment, choice Choice) (o *Outcome, err error) {
	dir, err := t.newDir("state")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	ledgers, err := t.ledgersAt(m)
	if err != nil {
		return nil, err
	}
	im, tally := m.State(choice)
	s := &state{trial: t, dir: dir, ledgers: ledgers, depth: m.Depth, disk: newDisk(im, Rules{}), outcome: Outcome{Tally: tally}}
	if s.mounted, err = t.Host.attach(s.disk, t.FS); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.mounted.detach()) }()
	if err := s.judge(ctx); err != nil {
		var violation *Violation
		if errors.As(err, &violation) {
			violation.Moment, violation.Choice = m.Name, choice
		}
		return nil, err
	}
	return &s.outcome, nil
}

// state is one that is being judged.
type state struct {
	trial   *Trial
	dir     string
	ledgers []string
	depth   int
	disk    *Disk
	mounted *Mounted
	outcome Outcome
}

func broken(stage string, err error) error {
	if err == nil {
		return nil
	}
	return &Violation{Stage: stage, Err: err}
}

// judge takes the state through recovery and, with another load, through a second one.
func (s *state) judge(ctx context.Context) error {
	recovering := s.trial.arm(s.disk, recoveryRequests)
	if err := s.recoverFileSystem(); err != nil {
		return err
	}
	server, err := serverproc.Start(ctx, s.trial.serverOptions(s.dir, dataDir(s.mounted.Dir)))
	if err != nil {
		return broken("start of the server", err)
	}
	err = s.judgeServer(ctx, server, recovering)
	return errors.Join(err, server.Close())
}

// recoverFileSystem lets the kernel replay the journal, checks the result, and mounts it.
func (s *state) recoverFileSystem() error {
	err := broken("mount", s.mounted.mount())
	if err == nil {
		err = s.mounted.unmount()
	}
	if err == nil {
		err = broken("fsck after the replay of the journal", s.mounted.fsck())
	}
	if err == nil {
		err = broken("second mount", s.mounted.mount())
	}
	return err
}

func (s *state) judgeServer(ctx context.Context, server *serverproc.Server, recovering <-chan taken) error {
	s.disk.Disarm()
	select {
	case m := <-recovering:
		if m.err != nil {
			return m.err
		}
		m.ledgers, m.counted, m.Depth = s.ledgers, true, s.depth+1
		m.Name = "during the recovery of another, " + m.Name
		s.outcome.Recovering = m.Moment
	default:
	}
	load, err := traffic.Start(ctx, traffic.Options{
		Dir: s.dir, Name: "after", Number: 1, Target: server.GRPCAddress(), Keys: server.Keys(), Shapes: traffic.Short(10), Rng: s.trial.Rng,
	})
	if err != nil {
		return err
	}
	err = errors.Join(load.Wait(), load.Stop())
	if err != nil {
		return broken("writes after recovery", err)
	}
	if s.trial.Rng.IntN(2) == 0 {
		if _, err := server.Kill(); err != nil {
			return err
		}
		if err := server.Restart(ctx); err != nil {
			return broken("second start of the server", err)
		}
	}
	status, err := server.Terminate(ctx)
	if err == nil && status.Code != 0 {
		err = fmt.Errorf("%v\n%s", status, server.LogTail())
	}
	if err != nil {
		return broken("drain", err)
	}
	return s.compare(ctx, server.DataDir(), append(load.Ledgers(), s.ledgers...))
}

func (s *state) compare(ctx context.Context, dataDir string, ledgers []string) error {
	report, err := verify.Parquet(ctx, dataDir, ledgers...)
	if err == nil && !report.OK() {
		err = fmt.Errorf("%s\n%+v", report, report.Examples)
	}
	if err != nil {
		return broken("comparison with the ledgers", err)
	}
	s.outcome.Acked = report.Acked
	return nil
}
