package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ingestor-project/ingestor/ingestor"
	"github.com/ingestor-project/ingestor/ingestor/internal/config"
)

// configFlags reads the configuration of a command: defaults, then file, then environment, then flags.
type configFlags struct {
	file  string
	flags *config.Flags
}

func addConfigFlags(set *pflag.FlagSet) *configFlags {
	c := &configFlags{}
	set.StringVar(&c.file, "config", "", "YAML configuration file")
	defaults := ingestor.DefaultConfig()
	c.flags = config.RegisterFlags(set, &defaults)
	return c
}

func (c *configFlags) load() (ingestor.Config, error) {
	cfg := ingestor.DefaultConfig()
	var problems []error
	if c.file != "" {
		problems = append(problems, cfg.LoadFile(c.file))
	}
	// What one source says wrongly keeps its default, so that the others can be checked all the same.
	problems = append(problems, cfg.LoadEnv(os.Environ()), c.flags.Apply(&cfg), cfg.Validate())
	if err := errors.Join(problems...); err != nil {
		return cfg, usageError{fmt.Errorf("configuration:\n%w", err)}
	}
	return cfg, nil
}

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until SIGTERM or SIGINT, which start an orderly stop; a second one ends the process at once (nothing
acknowledged is lost either way). SIGHUP reads the API keys, the JWKS file and the certificates anew.

Every setting has a flag, an environment variable and a key of the same path in the YAML file; flags win over variables,
variables over the file. The file's unknown keys are errors.`,
		Example: `  ingestion-server keys generate --tenant acme --id billing > keys.yaml
  ingestion-server serve --data_dir /var/lib/ingestor --auth.keys_file keys.yaml`,
		Args: cobra.NoArgs,
	}
	flags := addServerFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return flags.run(cmd, ingestor.New) }
	return cmd
}

// serverFlags are those of a command that runs a server.
type serverFlags struct {
	config      *configFlags
	addressFile string
}

func addServerFlags(set *pflag.FlagSet) *serverFlags {
	f := &serverFlags{config: addConfigFlags(set)}
	set.StringVar(&f.addressFile, "address-file", "", "file to write the addresses to, as JSON, once the server is ready")
	return f
}

// opener is ingestor.New, or what takes its place.
type opener func(ctx context.Context, cfg ingestor.Config, version string, log *slog.Logger) (*ingestor.Server, error)

// run runs a server until a signal or a failure ends it.
func (f *serverFlags) run(cmd *cobra.Command, open opener) error {
	cfg, err := f.config.load()
	if err != nil {
		return err
	}
	log, err := newLogger(cmd.ErrOrStderr(), cfg.Log)
	if err != nil {
		return usageError{err}
	}
	return serve(cmd.Context(), cfg, f.addressFile, log, open)
}

func newLogger(w io.Writer, cfg ingestor.LogConfig) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	switch cfg.Format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log.format: %q is neither text nor json", cfg.Format)
}

func serve(ctx context.Context, cfg ingestor.Config, addressFile string, log *slog.Logger, open opener) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// After the first signal the default is back: a second one ends the process, and the log keeps what is not flushed.
	context.AfterFunc(ctx, stop)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	server, err := open(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	if addressFile != "" {
		if err := writeAddresses(addressFile, server); err != nil {
			return closeAfter(server, err)
		}
	}
	return server.Run(ctx, reload)
}

func closeAfter(server *ingestor.Server, cause error) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Run(ctx, nil); err != nil {
		return fmt.Errorf("%w; while stopping: %w", cause, err)
	}
	return cause
}

// writeAddresses replaces the file in one step: who waits for it never reads half of it.
func writeAddresses(path string, server *ingestor.Server) error {
	content, err := json.Marshal(map[string]any{"grpc": server.GRPCAddress(), "admin": server.AdminAddress(), "pid": os.Getpid()})
	if err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(temp, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the address file: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write the address file: %w", err)
	}
	return nil
}
