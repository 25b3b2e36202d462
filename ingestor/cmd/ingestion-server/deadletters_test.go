package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ingestor-project/ingestor/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Suite{Tests: m}.Run()) }

// An operator's way: list, export, correct, replay, discard.
func TestDeadLettersFromTheCommandLine(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("INGESTOR_TIMESCALE_DSN", dsn)
	code, out := capture(t, "dead-letters", "list")
	require.Equal(t, 0, code)
	require.Equal(t, 1, strings.Count(out, "\n"), "the header alone")

	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for lsn := 7; lsn <= 9; lsn++ {
		body := fmt.Sprintf(`{"tenant_id": "acme", "endpoint_id": "or%s", "event_id": "01890000-0000-7000-8000-00000000000%d", "timestamp_unix_nano": 1700000000000000001,
			"version": 1, "content_type": "application/json", "payload": "e30=", "attributes": {"a": 12345678901234567890}, "lsn": %d}`, `\u0000`, lsn, lsn)
		_, err = conn.Exec(t.Context(), `INSERT INTO ingestor.dead_letters (source, reason, tenant_id, wal_id, lsn, body)
			VALUES ('records', E'refused\nfor \u001b[31m its content', 'acme', '00000000-0000-0000-0000-0000000000aa', $1, $2)`, lsn, []byte(body))
		require.NoError(t, err)
	}
	code, out = capture(t, "dead-letters", "list", "--from=2", "--limit=1")
	require.Equal(t, 0, code)
	require.Contains(t, out, `refused\nfor \x1b[31m its content`)
	require.Equal(t, 2, strings.Count(out, "\n"))

	code, exported := capture(t, "dead-letters", "export")
	require.Equal(t, 0, code)
	code, out = capture(t, "dead-letters", "replay", "1")
	require.Equal(t, 1, code)
	require.Contains(t, out, "1 refused: SQLSTATE 22021")

	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(exported, `\u0000`, "ders")), "\n")
	require.Len(t, lines, 3)
	file := filepath.Join(t.TempDir(), "letters.ndjson")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines[:2], "\n\n")), 0o600))
	code, out = capture(t, "dead-letters", "replay", "--file", file)
	require.Equal(t, 0, code)
	require.Equal(t, "1 stored\n2 stored\n", out)
	code, _ = capture(t, "dead-letters", "replay", "--file", file)
	require.Equal(t, 1, code, "they are not there any more")
	code, out = capture(t, "dead-letters", "discard", "3")
	require.Equal(t, 0, code)
	require.Equal(t, "3 discarded\n", out)

	var rows []string
	result, err := conn.Query(t.Context(), `SELECT to_jsonb(r) FROM ingestor.records r ORDER BY lsn`)
	require.NoError(t, err)
	for result.Next() {
		var row json.RawMessage
		require.NoError(t, result.Scan(&row))
		rows = append(rows, string(row))
	}
	require.NoError(t, result.Err())
	require.Len(t, rows, 2)
	require.JSONEq(t, `{"ts": "2023-11-14T22:13:20+00:00", "ts_unix_nano": 1700000000000000001, "tenant_id": "acme", "endpoint_id": "orders",
		"event_id": "01890000-0000-7000-8000-000000000007", "version": 1, "content_type": "application/json", "payload": "\\x7b7d",
		"attributes": {"a": 12345678901234567890}, "lsn": 7, "wal_id": "00000000-0000-0000-0000-0000000000aa"}`, rows[0])
	require.True(t, bytes.Contains([]byte(rows[0]), []byte("12345678901234567890")), "no digit is lost")

	for _, words := range [][]string{{"replay"}, {"replay", "1", "--file=x"}, {"replay", "one"}, {"replay", "--file=/no/such"}, {"discard"}} {
		code, _ = capture(t, append([]string{"dead-letters"}, words...)...)
		require.Equal(t, 2, code, words)
	}
	t.Setenv("INGESTOR_TIMESCALE_DSN", "")
	code, _ = capture(t, "dead-letters", "list")
	require.Equal(t, 2, code)
}
