package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs/crashfs"
	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// repairTest is a damaged log and what a repair must make of it, whatever cuts it short.
type repairTest struct {
	opt     func(*crashfs.FS) Options
	name    string // of the damaged segment
	damaged []byte
	want    []LSN
	// Every deepEvery-th repair is cut short itself, fewer of those after a second cut, and deepBound states of each of its moments are tried.
	deepEvery, deepBound int
	states               atomic.Int64 // within second repairs
	// unfinished counts the states in which Open must refuse the log until Repair is run again.
	unfinished atomic.Int64
}

// check repairs the log as a power cut has left it, or opens it where there is nothing left to do, and judges it.
func (r *repairTest) check(f *crashfs.FS, seed uint64, depth int) error {
	opt := r.opt(f)
	if _, err := f.SizeBytes(filepath.Join("wal", repairMarker)); err == nil {
		r.unfinished.Add(1)
		if _, err := Open(context.Background(), opt); err == nil || !strings.Contains(err.Error(), "repair was not finished") {
			return fmt.Errorf("open before the repair is finished: %w", err)
		}
	}
	var moments []*crashfs.Moment
	if depth < maxDepth && seed%uint64(r.deepEvery<<(4*depth-4)) == 0 {
		f.Before(func(crashfs.Op) error {
			moments = append(moments, f.Freeze())
			return nil
		})
	}
	_, err := Repair(context.Background(), opt)
	f.Before(nil)
	if err == nil {
		err = r.judge(f, opt)
	}
	for i, m := range moments {
		if err != nil {
			break
		}
		var visited int64
		visited, _, err = m.Visit(r.deepBound, seed+uint64(i), func(f *crashfs.FS, seed uint64) error { return r.check(f, seed, depth+1) })
		r.states.Add(visited)
	}
	return err
}

func (r *repairTest) judge(f *crashfs.FS, opt Options) error {
	w, err := Open(context.Background(), opt)
	if err != nil {
		return err
	}
	var got []LSN
	err = w.Replay(context.Background(), 0, func(f Frame) error {
		if !isEntry(f) {
			return fmt.Errorf("frame at LSN %d is not what was appended", f.First)
		}
		got = append(got, f.First)
		return nil
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if !slices.Equal(got, r.want) {
		return fmt.Errorf("the repaired log holds %v, not %v", got, r.want)
	}
	names, err := f.List("wal")
	if err != nil || strings.Contains(strings.Join(names, " "), repairedSuffix) {
		return fmt.Errorf("left over: %v, %w", names, err)
	}
	aside, err := vfs.ReadFile(f, filepath.Join("wal", r.name+damagedSuffix))
	if err != nil || !bytes.Equal(aside, r.damaged) {
		return fmt.Errorf("the damaged segment is not as it was: %w", err)
	}
	return nil
}

// TestRepairMayCrashAnywhere cuts the power at every operation of a repair, in every way, and runs it again, which is cut short as well.
func TestRepairMayCrashAnywhere(t *testing.T) {
	run := crashlevel.Start(t, "WAL states, repair", "states", "./ingestor/internal/wal")
	img := newImage(t, true)
	r := &repairTest{
		opt: func(f *crashfs.FS) Options { return repairOptions(f, img) }, name: img.segments()[0],
		deepEvery: crashlevel.Pick(t, 100, 60, 4), deepBound: crashlevel.Pick(t, 1, 1, 10),
	}
	r.damaged = bytes.Clone(img.files[r.name])
	clear(sector(r.damaged, 8192, 4096))
	fsys := img.mount(t, r.name, r.damaged)
	_, err := Repair(context.Background(), r.opt(fsys))
	require.NoError(t, err)
	r.want = img.kept(t, fsys)
	require.Less(t, len(r.want), len(img.firsts))

	fsys = img.mount(t, r.name, r.damaged)
	list, err := listDir(fsys, "wal")
	require.NoError(t, err)
	require.NoError(t, syncAll(fsys, "wal", list.segments))
	e := &crashfs.Explorer{Seed: run.Seed()}
	operation, bound := 0, crashlevel.Pick(t, 10, 400, 20_000)
	fsys.Before(func(op crashfs.Op) error {
		operation++
		where := fmt.Sprintf("power cut before operation %d of the repair, %s of %s", operation, op.Kind, op.Name)
		e.Moment(fsys.Freeze(), bound, where, func(f *crashfs.FS, seed uint64) error { return r.check(f, seed, 1) })
		return nil
	})
	_, err = Repair(context.Background(), r.opt(fsys))
	require.NoError(t, err)
	explored, complete, err := e.Wait()
	run.Explored(explored + r.states.Load())
	t.Logf("%d states, %d within second repairs, %d with the repair unfinished; of %d moments all",
		explored, r.states.Load(), r.unfinished.Load(), complete)
	require.NoError(t, err)
	require.Positive(t, r.unfinished.Load())
}
