package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/storage/timescale"
)

// maxLetterBytes bounds a line of a replay's file: the largest record, its payload as base64, with room for attributes.
const maxLetterBytes = 64 << 20

// deadLetterFlags are those of all commands about dead letters. The database is configured as for `serve`.
type deadLetterFlags struct {
	config, dsnFile string
	from            int64
	limit           int
	file            string
}

func deadLettersCommand() *cobra.Command {
	f := &deadLetterFlags{}
	parent := group(&cobra.Command{
		Use:   "dead-letters",
		Short: "List, replay or discard the rows that the database has refused for their content",
		Long: `List, replay or discard the rows that the database has refused for their content. They are in ingestor.dead_letters, whole, with the
database's reason. The server may run meanwhile.

The database is that of ` + "`serve`" + `: INGESTOR_TIMESCALE_DSN, INGESTOR_TIMESCALE_DSN_FILE, --timescale.dsn_file or the file of --config.`,
		Example: `  ingestion-server dead-letters list
  ingestion-server dead-letters export > letters.ndjson     # then correct the bodies
  ingestion-server dead-letters replay --file letters.ndjson`,
	})
	parent.PersistentFlags().StringVar(&f.config, "config", "", "YAML configuration file of the server")
	parent.PersistentFlags().StringVar(&f.dsnFile, "timescale.dsn_file", "", "file that holds the database's URL")
	list := &cobra.Command{Use: "list", Short: "Show them, one a line", Args: cobra.NoArgs, RunE: f.with(f.list)}
	export := &cobra.Command{Use: "export", Short: "Write them as JSON, one a line, bodies included", Args: cobra.NoArgs, RunE: f.with(f.export)}
	list.Flags().IntVar(&f.limit, "limit", 100, "how many at most")
	export.Flags().IntVar(&f.limit, "limit", math.MaxInt32, "how many at most")
	for _, cmd := range []*cobra.Command{list, export} {
		cmd.Flags().Int64Var(&f.from, "from", 0, "the first ID")
	}
	replay := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Store them in the tables that they were meant for, as they are or as a file has corrected them",
		Long: `Store dead letters in the tables that they were meant for and remove them, each in one transaction. With IDs they are stored as they
are (a constraint may be gone); with --file as the lines of an export say whose bodies may have been corrected. What is refused again stays, with the
new reason, and makes the exit code 1.`,
		RunE: f.with(f.replay),
	}
	replay.Flags().StringVar(&f.file, "file", "", "lines of an export; - for standard input")
	discard := &cobra.Command{
		Use: "discard ID...", Short: "Remove them for good", Args: cobra.MinimumNArgs(1), RunE: f.with(f.discard),
	}
	parent.AddCommand(list, export, replay, discard)
	return parent
}

type deadLetterAction func(ctx context.Context, db *timescale.Database, cmd *cobra.Command, args []string) error

// with opens the database for an action.
func (f *deadLetterFlags) with(action deadLetterAction) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg := ingestor.DefaultConfig()
		var problems []error
		if f.config != "" {
			problems = append(problems, cfg.LoadFile(f.config))
		}
		problems = append(problems, cfg.LoadEnv(os.Environ()))
		database := timescale.Config{DSN: cfg.Timescale.DSN.Reveal(), DSNFile: cfg.Timescale.DSNFile}
		if f.dsnFile != "" {
			database.DSN, database.DSNFile = "", f.dsnFile
		}
		problems = append(problems, database.Validate())
		if err := errors.Join(problems...); err != nil {
			return usageError{err}
		}
		db, err := timescale.Open(cmd.Context(), database, timescale.Options{
			Logger:     slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
			Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			return err
		}
		defer db.Close()
		return action(cmd.Context(), db, cmd, args)
	}
}

func (f *deadLetterFlags) list(ctx context.Context, db *timescale.Database, cmd *cobra.Command, _ []string) error {
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tAT\tSOURCE\tLSN\tREASON")
	err := db.DeadLetters(ctx, f.from, f.limit, func(l timescale.DeadLetter) error {
		lsn := "-"
		if l.LSN != nil {
			lsn = strconv.FormatInt(*l.LSN, 10)
		}
		// Quoted, because the reason may repeat what a client has sent.
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", l.ID, l.At.Format(time.RFC3339), l.Source, lsn, printable(l.Reason))
		return nil
	})
	return errors.Join(err, table.Flush())
}

// printable keeps text that a client may have chosen from steering the terminal.
func printable(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

func (f *deadLetterFlags) export(ctx context.Context, db *timescale.Database, cmd *cobra.Command, _ []string) error {
	out := bufio.NewWriter(cmd.OutOrStdout())
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	err := db.DeadLetters(ctx, f.from, f.limit, func(l timescale.DeadLetter) error { return encoder.Encode(l) })
	return errors.Join(err, out.Flush())
}

func (f *deadLetterFlags) replay(ctx context.Context, db *timescale.Database, cmd *cobra.Command, args []string) error {
	if (f.file == "") == (len(args) == 0) {
		return usageError{errors.New("replay takes IDs, or --file, and not both")}
	}
	refused := 0
	one := func(id int64, body []byte) error {
		reason, err := db.Replay(ctx, id, body)
		switch {
		case err != nil:
			return err
		case reason != "":
			refused++
			fmt.Fprintf(cmd.OutOrStdout(), "%d refused: %s\n", id, printable(reason))
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "%d stored\n", id)
		}
		return nil
	}
	var err error
	if f.file != "" {
		err = f.eachLine(cmd.InOrStdin(), one)
	} else {
		err = eachID(args, func(id int64) error {
			letter, err := db.DeadLetter(ctx, id)
			if err != nil {
				return err
			}
			return one(id, letter.Body)
		})
	}
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d dead letters were refused again and stay", refused)
	}
	return err
}

// eachLine calls fn for each line of the file.
func (f *deadLetterFlags) eachLine(stdin io.Reader, fn func(id int64, body []byte) error) error {
	in := stdin
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return usageError{err}
		}
		defer file.Close() //nolint:errcheck // it was only read
		in = file
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLetterBytes)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var letter timescale.DeadLetter
		if err := json.Unmarshal(lines.Bytes(), &letter); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if letter.ID == 0 || len(letter.Body) == 0 {
			return fmt.Errorf("line %d has no id or no body", n)
		}
		if err := fn(letter.ID, letter.Body); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

func (f *deadLetterFlags) discard(ctx context.Context, db *timescale.Database, cmd *cobra.Command, args []string) error {
	return eachID(args, func(id int64) error {
		if err := db.Discard(ctx, id); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d discarded\n", id)
		return nil
	})
}

// eachID parses all IDs before it calls fn for the first.
func eachID(args []string, fn func(id int64) error) error {
	ids := make([]int64, len(args))
	for i, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return usageError{fmt.Errorf("%q is no ID", arg)}
		}
		ids[i] = id
	}
	for _, id := range ids {
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}
