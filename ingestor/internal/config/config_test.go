package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/ingestor/internal/config"
)

type settings struct {
	DataDir string `yaml:"data_dir" help:"where data lives"`
	WAL     struct {
		SegmentBytes config.ByteSize `yaml:"segment_bytes" help:"size"`
		Spares       int             `yaml:"spares" help:"n"`
		Age          time.Duration   `yaml:"age" help:"age"`
	} `yaml:"wal"`
	Sink struct {
		Enabled bool          `yaml:"enabled" help:"on"`
		DSN     config.Secret `yaml:"dsn" help:"dsn"`
		Names   []string      `yaml:"names" help:"names"`
		Ratio   float64       `yaml:"ratio" help:"ratio"`
	} `yaml:"sink"`
}

func defaults() *settings {
	s := &settings{DataDir: "./data"}
	s.WAL.SegmentBytes = 64 << 20
	s.WAL.Spares = 3
	s.WAL.Age = 10 * time.Second
	s.Sink.Enabled = true
	return s
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestStrongerSourcesWin(t *testing.T) {
	flagSet := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags := config.RegisterFlags(flagSet, defaults())
	require.NoError(t, flagSet.Parse([]string{"--wal.age=1m", "--sink.enabled=false"}))

	got := defaults()
	require.NoError(t, config.LoadFile(got, file(t, "wal:\n  segment_bytes: 1MiB\n  age: 5s\nsink:\n  dsn: postgres://u:secret@h/db\n  names: [a, b]\n")))
	require.NoError(t, config.LoadEnv(got, []string{"INGESTOR_WAL_SEGMENT_BYTES=2MiB", "INGESTOR_WAL_AGE=7s", "INGESTOR_API_KEY=ours-to-ignore", "HOME=/x"}))
	require.NoError(t, flags.Apply(got))

	want := defaults()
	want.WAL.SegmentBytes = 2 << 20 // environment over file
	want.WAL.Age = time.Minute      // flag over environment
	want.Sink.Enabled = false       // flag over default
	want.Sink.DSN = "postgres://u:secret@h/db"
	want.Sink.Names = []string{"a", "b"}
	require.Equal(t, want, got, "siblings that a file does not name keep their defaults")
}

func TestUnknownKeysAreRefused(t *testing.T) {
	err := config.LoadFile(defaults(), file(t, "data_dir: x\nwal:\n  segmnt_bytes: 1\n"))
	require.ErrorContains(t, err, "segmnt_bytes")
	require.ErrorContains(t, err, "[3:3]")
	require.ErrorContains(t, config.LoadFile(defaults(), file(t, "data_dir: x\ndata_dir: y\n")), "data_dir")
	require.ErrorContains(t, config.LoadEnv(defaults(), []string{"INGESTOR_WAL_SEGMNT=1"}), "INGESTOR_WAL_SEGMNT")
	require.Error(t, config.LoadFile(defaults(), filepath.Join(t.TempDir(), "absent.yaml")))
	require.NoError(t, config.LoadFile(defaults(), file(t, "")), "an empty file means all defaults")
}

func TestBadValuesNameTheirSource(t *testing.T) {
	require.ErrorContains(t, config.LoadEnv(defaults(), []string{"INGESTOR_WAL_AGE=soon"}), `INGESTOR_WAL_AGE: "soon" is not a duration`)
	flagSet := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags := config.RegisterFlags(flagSet, defaults())
	require.NoError(t, flagSet.Parse([]string{"--wal.spares=many"}))
	require.ErrorContains(t, flags.Apply(defaults()), `--wal.spares: "many" is not a int`)
	require.ErrorContains(t, config.LoadFile(defaults(), file(t, "wal:\n  segment_bytes: 64MB\n")), "not a size")
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]config.ByteSize{"0": 0, "5": 5, "1KiB": 1024, "64 MiB": 64 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40} {
		var got config.ByteSize
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
		var again config.ByteSize
		require.NoError(t, again.UnmarshalText([]byte(got.String())))
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "-1", "1MB", "x", "9999999TiB", "1.5MiB"} {
		var got config.ByteSize
		require.Error(t, got.UnmarshalText([]byte(text)), text)
	}
}

func TestSecretsAreMaskedWhereverTheyArePrinted(t *testing.T) {
	s := defaults()
	s.Sink.DSN = "hunter2"
	var out bytes.Buffer
	require.NoError(t, config.Print(&out, s))
	require.NotContains(t, out.String(), "hunter2")
	require.Contains(t, out.String(), "********")
	require.Contains(t, out.String(), "segment_bytes: 64MiB")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, s.Sink.DSN), "hunter2")
	require.Equal(t, "hunter2", s.Sink.DSN.Reveal())
	flagSet := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.RegisterFlags(flagSet, s)
	require.NotContains(t, flagSet.FlagUsages(), "hunter2")

	printed := defaults()
	require.NoError(t, config.LoadFile(printed, file(t, out.String())), "what is printed can be loaded again")
	require.Equal(t, s.WAL, printed.WAL)
}
