package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/datadir"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/manifest"
	"github.com/ingestor-project/ingestor/ingestor/internal/vfs"
	"github.com/ingestor-project/ingestor/ingestor/internal/wal"
)

func walCommand() *cobra.Command {
	parent := group(&cobra.Command{
		Use:   "wal",
		Short: "Look at, check or repair a write-ahead log while no server uses it",
		Long: `Look at, check or repair the write-ahead log in DATA_DIR/wal. The server must not run. A log with a tail that a crash has torn is
sound: the server cuts that by itself. Damage that a crash cannot explain stops the server, and these commands, with exit code 3.`,
	})
	parent.AddCommand(
		&cobra.Command{
			Use: "inspect DIR", Short: "List segments and frames", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return inspectWAL(cmd, args[0], true) },
		},
		&cobra.Command{
			Use: "verify DIR", Short: "Check every frame; change nothing", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return inspectWAL(cmd, args[0], false) },
		},
		&cobra.Command{
			Use:   "repair DIR",
			Short: "Put damaged segments aside, keep every legible frame, and say exactly what is lost",
			Args:  cobra.ExactArgs(1),
			RunE:  func(cmd *cobra.Command, args []string) error { return repairWAL(cmd, args[0]) },
		},
	)
	return parent
}

// withLock keeps servers out of the data directory that holds the log. A copy of a log alone has no lock file and needs none.
func withLock(dir string, fn func() error) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("%s is not a directory", dir)}
	}
	if info, err := os.Stat(filepath.Join(dir, "wal")); err == nil && info.IsDir() {
		return usageError{fmt.Errorf("%s is a data directory: its log is %s", dir, filepath.Join(dir, "wal"))}
	}
	dataDir := filepath.Dir(filepath.Clean(dir))
	if _, err := os.Stat(filepath.Join(dataDir, "LOCK")); errors.Is(err, os.ErrNotExist) {
		return fn()
	}
	unlock, err := datadir.Lock(dataDir)
	if err != nil {
		return err
	}
	return errors.Join(fn(), unlock())
}

func inspectWAL(cmd *cobra.Command, dir string, frames bool) error {
	return withLock(dir, func() error {
		out := cmd.OutOrStdout()
		visit := func(wal.FrameInfo) error { return nil }
		if frames {
			visit = func(f wal.FrameInfo) error { return printFrame(out, f) }
		}
		report, err := wal.Inspect(cmd.Context(), vfs.OS, dir, visit)
		if err != nil {
			return err
		}
		if len(report.Segments) == 0 && report.Corruption == nil && !report.UnfinishedRepair {
			return usageError{fmt.Errorf("%s holds no segment of a log", dir)}
		}
		printReport(out, report)
		if report.Corruption != nil {
			return fmt.Errorf("%w: %w", ingestor.ErrRefused, report.Corruption)
		}
		return nil
	})
}

func printFrame(out io.Writer, f wal.FrameInfo) error {
	_, err := fmt.Fprintf(out, "segment %d offset %d: %s, LSN %d, %d records, %d bytes, durable up to %d\n",
		f.Position.Segment, f.Position.OffsetBytes, f.Kind, f.FirstLSN, f.Records, f.PayloadBytes, f.DurableLSN)
	return err
}

func printReport(out io.Writer, r wal.Report) {
	fmt.Fprintf(out, "log %s, %d segments, %d spare\n", r.WALID, len(r.Segments), r.Spares)
	for _, s := range r.Segments {
		state := "open"
		if s.Sealed {
			state = "sealed"
		}
		records := "no records"
		if s.LastLSN >= s.FirstLSN {
			records = fmt.Sprintf("LSN %d to %d", s.FirstLSN, s.LastLSN)
		}
		fmt.Fprintf(out, "%s: %s, %d frames, %d of %d bytes used, %s\n", s.Name, records, s.Frames, s.EndBytes, s.SizeBytes, state)
	}
	if r.TornBytes > 0 {
		fmt.Fprintf(out, "a crash tore the last group: %d bytes of it are legible; it was never acknowledged\n", r.TornBytes)
	}
	if r.UnfinishedRepair {
		fmt.Fprintln(out, "a repair was interrupted: run wal repair again")
	}
	if r.Corruption == nil {
		fmt.Fprintln(out, "sound")
	}
}

// knownOf returns what the manifest beside a log says of it: the lowest LSN that the server needs, and its identity. Both are zero where
// there is no manifest.
func knownOf(dir string) (firstLSN wal.LSN, id [16]byte, err error) {
	state, err := manifest.Read(vfs.OS, filepath.Join(filepath.Dir(filepath.Clean(dir)), "manifest"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, id, nil
	}
	if err != nil {
		return 0, id, err
	}
	decoded, err := hex.DecodeString(state.WALID)
	copy(id[:], decoded)
	return state.LowWatermark + 1, id, err
}

func repairWAL(cmd *cobra.Command, dir string) error {
	return withLock(dir, func() error {
		firstLSN, id, err := knownOf(dir)
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
		report, err := wal.Repair(cmd.Context(), wal.Options{Dir: dir, FS: vfs.OS, FirstLSN: firstLSN, ID: id, Logger: log})
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if report.Damage == nil && len(report.PutAside) == 0 {
			fmt.Fprintln(out, "the log is sound; nothing was changed")
			return nil
		}
		if report.Damage != nil {
			fmt.Fprintln(out, "damage:", report.Damage)
		}
		for _, name := range report.PutAside {
			fmt.Fprintln(out, "put aside:", name)
		}
		for _, lost := range report.Lost {
			fmt.Fprintf(out, "lost: LSN %d to %d\n", lost.First, lost.Last)
		}
		fmt.Fprintf(out, "lost: %d bytes between legible frames, %d frames with a legible header\n", report.LostBytes, report.LostFrames)
		fmt.Fprintf(out, "kept: %d batches with %d records, the last one with LSN %d\n", report.KeptFrames, report.KeptRecords, report.LastLSN)
		return nil
	})
}
