package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
)

const (
	// repairMarker is the file that says: the repaired segments are complete, and take the place of the damaged ones.
	repairMarker = "repair.marker"
	repairTemp   = "repair.tmp"
	// repairedSuffix follows a segment's name until it takes its place; damagedSuffix follows that of one put aside.
	repairedSuffix = ".repaired"
	damagedSuffix  = ".damaged"
)

// RepairReport says what Repair did.
type RepairReport struct {
	// Damage is what made the repair necessary; nil where the log is sound and nothing was done.
	Damage *CorruptionError
	// PutAside are the names of the files that hold the log as it was, byte for byte.
	PutAside []string
	// Lost are the LSNs that were given out and are in no legible frame. Of records above the last kept one nothing is known.
	Lost []LSNRange
	// LostBytes is the size of the places, between legible frames, that are part of none. What is lost after the last legible
	// frame of a segment is not counted, because where it ended is not known.
	LostBytes int64
	// LostFrames counts the frames there whose header is legible; more may have been.
	LostFrames int
	// KeptFrames and KeptRecords were copied to the new log; LastLSN is the last one.
	KeptFrames  int
	KeptRecords uint64
	LastLSN     LSN
}

// LSNRange is a range of LSNs, both ends included.
type LSNRange struct{ First, Last LSN }

// Repair makes a damaged log one that Open takes, and reports exactly what is lost. Every frame that is legible is copied to
// new segments, whose ids follow the old ones; the old ones are put aside under a new name, whole. Of opt it uses Dir, FS,
// the sizes, FirstLSN, ID and Logger. No other process may use the log. A repair that was interrupted is finished by calling
// Repair again; until then Open refuses the log.
func Repair(ctx context.Context, opt Options) (RepairReport, error) {
	var report RepairReport
	opt, err := opt.withDefaults()
	if err != nil {
		return report, err
	}
	list, err := listDir(opt.FS, opt.Dir)
	if err != nil {
		return report, err
	}
	if list.repair {
		report.PutAside, err = swap(opt.FS, opt.Dir)
		return report, err
	}
	if err := syncAll(opt.FS, opt.Dir, list.segments); err != nil {
		return report, err
	}
	report.Damage, err = damage(ctx, opt, list.segments)
	if err != nil || report.Damage == nil {
		return report, err
	}
	s, err := newSalvage(ctx, opt, list.segments)
	if err != nil {
		return report, err
	}
	if err := rebuild(ctx, opt, s, list); err != nil {
		return report, fmt.Errorf("wal: repair: %w", err)
	}
	s.tell(&report)
	report.PutAside, err = swap(opt.FS, opt.Dir)
	return report, err
}

// damage says why Open would refuse the log; nil where it would not.
func damage(ctx context.Context, opt Options, ids []uint64) (*CorruptionError, error) {
	s := scanner{fs: opt.FS, dir: opt.Dir, direct: opt.DirectIO != DirectOff}
	segments, err := s.scan(ctx, ids)
	if err == nil && len(segments) > 0 {
		err = missingBefore(segments[0], opt.FirstLSN)
	}
	corruption, ok := errors.AsType[*CorruptionError](err)
	if ok {
		return corruption, nil
	}
	return nil, err
}

// rebuild writes the salvaged frames as a new log, beside the old one, and then the marker. Spares are given up.
func rebuild(ctx context.Context, opt Options, s *salvage, list listing) error {
	names, err := opt.FS.List(opt.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix+repairedSuffix) {
			if err := opt.FS.Remove(filepath.Join(opt.Dir, name)); err != nil {
				return err
			}
		}
	}
	firstID := list.segments[len(list.segments)-1] + 1
	opt.SpareSegments, opt.MaxSizeBytes, opt.Registerer, opt.OnGroup = 0, 0, nil, func(GroupStats) {}
	opt.MaxGroupBytes = max(opt.MaxGroupBytes, s.maxGroupBytes)
	opt.SegmentSizeBytes = max(opt.SegmentSizeBytes, minSegmentBytes(opt.MaxGroupBytes))
	w := newWAL(opt)
	w.id, w.firstSegment, w.suffix = s.wal, firstID, repairedSuffix
	w.next.Store(s.first())
	w.durable.Store(s.first() - 1)
	if err := w.start(ctx, list.spares); err != nil {
		return err
	}
	if err := errors.Join(s.copyTo(ctx, w), w.Close()); err != nil {
		return err
	}
	contents := binary.LittleEndian.AppendUint64(nil, firstID)
	return vfs.WriteFileDurably(opt.FS, filepath.Join(opt.Dir, repairMarker), filepath.Join(opt.Dir, repairTemp), contents)
}

// swap puts the old segments aside and the repaired ones in their place. It may be interrupted and run again: the marker
// goes last.
func swap(fsys vfs.FS, dir string) (putAside []string, err error) {
	marker := filepath.Join(dir, repairMarker)
	contents, err := vfs.ReadFile(fsys, marker)
	if err != nil || len(contents) != 8 {
		return nil, errors.Join(fmt.Errorf("wal: repair: marker of %d bytes", len(contents)), err)
	}
	firstID := binary.LittleEndian.Uint64(contents)
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		to := ""
		if id, ok := parseSegmentName(name); ok && id < firstID {
			to = name + damagedSuffix
			putAside = append(putAside, to)
		} else if segment, ok := strings.CutSuffix(name, repairedSuffix); ok {
			to = segment
		}
		if to == "" {
			continue
		}
		if err := fsys.Rename(filepath.Join(dir, name), filepath.Join(dir, to)); err != nil {
			return nil, fmt.Errorf("wal: repair: %w", err)
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("wal: repair: %w", err)
	}
	if err := errors.Join(fsys.Remove(marker), fsys.SyncDir(dir)); err != nil {
		return nil, fmt.Errorf("wal: repair: %w", err)
	}
	return putAside, nil
}

// openForReading opens a segment by its id.
func openForReading(opt *Options, id uint64) (vfs.File, int64, error) {
	f, err := opt.FS.OpenFile(filepath.Join(opt.Dir, segmentName(id)), os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.SizeBytes()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// String prints a range as an operator reads it.
func (r LSNRange) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(r.First, 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
