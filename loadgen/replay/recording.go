package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

// Options say how the rows of a file become records.
type Options struct {
	Path string // its suffix tells the format: .csv, .ndjson or .jsonl, .parquet
	// TimestampColumn holds the time: RFC 3339 text, a Parquet timestamp, or a number of seconds, milliseconds, microseconds or
	// nanoseconds since the Unix epoch, told apart by its size. Required.
	TimestampColumn string
	EndpointColumn  string // holds the endpoint's name
	Endpoint        string // the endpoint of all rows where there is no such column. Default: "replay"
}

// Recording is a file in memory.
type Recording struct {
	options   Options
	sha256    string
	endpoints []string         // in order of appearance
	index     map[string]int   // of endpoints
	rows      [][]recorded     // by endpoint, in order of the file
	order     []endpointAndRow // of the file
}

type recorded struct {
	unixNano int64
	payload  []byte
}

type endpointAndRow struct{ endpoint, row int }

// Open reads a file.
func Open(options Options) (*Recording, error) {
	if options.TimestampColumn == "" {
		return nil, fmt.Errorf("replay: the timestamp column must be named")
	}
	if options.Endpoint == "" {
		options.Endpoint = "replay"
	}
	content, err := os.ReadFile(options.Path)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	sum := sha256.Sum256(content)
	r := &Recording{options: options, sha256: hex.EncodeToString(sum[:]), index: make(map[string]int)}
	suffix := strings.ToLower(filepath.Ext(options.Path))
	switch suffix {
	case ".csv":
		err = readCSV(content, r.add)
	case ".ndjson", ".jsonl":
		err = readNDJSON(content, r.add)
	case ".parquet":
		err = readParquet(content, r.add)
	default:
		err = fmt.Errorf("unknown suffix %q", suffix)
	}
	if err != nil {
		return nil, fmt.Errorf("replay: %s: %w", options.Path, err)
	}
	if len(r.order) == 0 {
		return nil, fmt.Errorf("replay: %s: no rows", options.Path)
	}
	return r, nil
}

// Reopen reads the file that a ledger refers to. It is an error if the file has changed since.
func Reopen(reference ledger.Replay) (*Recording, error) {
	r, err := Open(Options{
		Path: reference.Path, TimestampColumn: reference.TimestampColumn,
		EndpointColumn: reference.EndpointColumn, Endpoint: reference.Endpoint,
	})
	if err == nil && r.sha256 != reference.SHA256 {
		return nil, fmt.Errorf("replay: %s is not the file that was sent: its SHA-256 is %s, then it was %s",
			reference.Path, r.sha256, reference.SHA256)
	}
	return r, err
}

// add takes over one row, given as the values of its columns: strings, json.Number, bool, nil, or what JSON decodes into.
func (r *Recording) add(columns map[string]any) error {
	value, ok := columns[r.options.TimestampColumn]
	if !ok {
		return fmt.Errorf("row %d: there is no column %q", len(r.order)+1, r.options.TimestampColumn)
	}
	unixNano, err := parseTime(value)
	if err != nil {
		return fmt.Errorf("row %d: column %q: %w", len(r.order)+1, r.options.TimestampColumn, err)
	}
	delete(columns, r.options.TimestampColumn)
	name := r.options.Endpoint
	if column := r.options.EndpointColumn; column != "" {
		value, ok := columns[column]
		if name = fmt.Sprint(value); !ok || value == nil || name == "" {
			return fmt.Errorf("row %d: column %q names no endpoint", len(r.order)+1, column)
		}
		delete(columns, column)
	}
	payload, err := json.Marshal(columns)
	if err != nil {
		return fmt.Errorf("row %d: %w", len(r.order)+1, err)
	}
	endpoint, ok := r.index[name]
	if !ok {
		endpoint = len(r.endpoints)
		r.index[name] = endpoint
		r.endpoints = append(r.endpoints, name)
		r.rows = append(r.rows, nil)
	}
	r.order = append(r.order, endpointAndRow{endpoint, len(r.rows[endpoint])})
	r.rows[endpoint] = append(r.rows[endpoint], recorded{unixNano, payload})
	return nil
}

// Rows is the number of rows.
func (r *Recording) Rows() int { return len(r.order) }

// Endpoints returns the names of the endpoints, in the order of their first rows.
func (r *Recording) Endpoints() []string { return slices.Clone(r.endpoints) }

// ContentType implements record.Source.
func (r *Recording) ContentType() string { return "" }

// Fill implements record.Source.
func (r *Recording) Fill(into *record.Record, b record.Batch, index uint32) {
	source := &r.rows[b.Endpoint][b.Row+uint64(index)]
	into.ID = b.Identity(index).ID()
	into.TimestampUnixNano = source.unixNano
	into.Version = 1
	into.Payload = append(into.Payload[:0], source.payload...)
	into.Attributes = into.Attributes[:0]
}

// Reference is how a ledger names the recording.
func (r *Recording) Reference() ledger.Replay {
	path, err := filepath.Abs(r.options.Path)
	if err != nil {
		path = r.options.Path
	}
	return ledger.Replay{
		Path: path, SHA256: r.sha256, TimestampColumn: r.options.TimestampColumn,
		EndpointColumn: r.options.EndpointColumn, Endpoint: r.options.Endpoint,
	}
}

// parseTime reads a time from what a column holds and returns nanoseconds since the Unix epoch.
func parseTime(value any) (int64, error) {
	switch v := value.(type) {
	case time.Time:
		return v.UnixNano(), nil
	case json.Number:
		return parseNumber(v.String())
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return t.UnixNano(), nil
		}
		return parseNumber(v)
	}
	return 0, fmt.Errorf("%v is not a time", value)
}

func parseNumber(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return scaled(n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(f > 0 && f < 1e18) {
		return 0, fmt.Errorf("%q is not a time", text)
	}
	whole, fraction := math.Modf(f)
	unit := scaled(int64(whole)) / max(int64(whole), 1)
	return int64(whole)*unit + int64(fraction*float64(unit)), nil
}

// scaled turns a number of seconds, milliseconds, microseconds or nanoseconds into nanoseconds. Times after 1973 are told apart.
func scaled(n int64) int64 {
	switch {
	case n < 1e11:
		return n * 1e9
	case n < 1e14:
		return n * 1e6
	case n < 1e17:
		return n * 1e3
	}
	return n
}

// splitLines calls fn with each line that is not empty.
func splitLines(content []byte, fn func(line []byte) error) error {
	for len(content) > 0 {
		line, rest, _ := bytes.Cut(content, []byte("\n"))
		content = rest
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := fn(line); err != nil {
				return err
			}
		}
	}
	return nil
}
