package timescale

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// cut says where a proxy cuts the connection that carries the next COMMIT.
type cut int32

const (
	cutNever  cut = iota
	cutBefore     // the server never gets it: the transaction is rolled back
	cutAfter      // the server commits, and its answer is lost
)

// proxy passes PostgreSQL's protocol on and cuts a connection where it is told to.
type proxy struct {
	listener net.Listener
	server   string
	next     atomic.Int32 // a cut
	cuts     atomic.Int32
	conns    sync.WaitGroup
}

// newProxy returns a proxy before the server of dsn, and the DSN that leads through it.
func newProxy(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	config, err := pgconn.ParseConfig(dsn)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener, server: fmt.Sprintf("%s:%d", config.Host, config.Port)}
	p.conns.Go(p.accept)
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		p.conns.Wait()
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.conns.Go(func() {
			defer client.Close()
			server, err := net.Dial("tcp", p.server)
			if err != nil {
				return
			}
			defer server.Close()
			p.relay(client, server)
		})
	}
}

// relay returns when either side has closed, or at a cut.
func (p *proxy) relay(client, server net.Conn) {
	deaf := make(chan struct{}) // closed when the server's answers must not be passed on any more
	var back sync.WaitGroup
	back.Go(func() {
		p.answers(client, server, deaf)
		_ = client.Close()
	})
	defer back.Wait()
	defer server.Close()
	if !forwardStartup(client, server) {
		return
	}
	for {
		message, err := readMessage(client)
		if err != nil {
			return
		}
		if bytes.Equal(message[5:], []byte("commit\x00")) {
			switch cut(p.next.Swap(int32(cutNever))) {
			case cutBefore:
				p.cuts.Add(1)
				return
			case cutAfter:
				p.cuts.Add(1)
				close(deaf)
			}
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// answers passes the server's messages on, until deaf: then it waits for the answer to COMMIT and closes.
func (p *proxy) answers(client, server net.Conn, deaf <-chan struct{}) {
	for {
		message, err := readMessage(server)
		if err != nil {
			return
		}
		select {
		case <-deaf:
			if message[0] == 'C' { // CommandComplete
				return
			}
			continue
		default:
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

// forwardStartup passes on the one message that has no type.
func forwardStartup(client io.Reader, server io.Writer) bool {
	header := make([]byte, 4)
	if _, err := io.ReadFull(client, header); err != nil {
		return false
	}
	body := make([]byte, binary.BigEndian.Uint32(header)-4)
	if _, err := io.ReadFull(client, body); err != nil {
		return false
	}
	_, err := server.Write(append(header, body...))
	return err == nil
}

// readMessage reads a message: one byte of type, four of length (without the type), the body.
func readMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n < 4 {
		return nil, errors.New("a message of negative length")
	}
	message := append(header, make([]byte, n-4)...)
	_, err := io.ReadFull(r, message[5:])
	return message, err
}

func TestCommitWhoseOutcomeIsUnknown(t *testing.T) {
	for name, where := range map[string]cut{"lost before the server has it": cutBefore, "lost with its answer": cutAfter} {
		t.Run(name, func(t *testing.T) {
			p, dsn := newProxy(t, preparedDSN(t))
			db := open(t, Config{DSN: dsn})
			s := newStory(t)
			sink, _ := claimed(t, db)
			first, second := s.generation(t, 4), s.generation(t, 4)
			require.NoError(t, sink.Flush(t.Context(), first, 0))

			// The partitions are made beforehand: the commit that is cut shall be that of the records.
			require.NoError(t, db.partitions.ensure(t.Context(), "records", 0, s.now.UnixNano()))
			p.next.Store(int32(where))
			err := sink.Flush(t.Context(), second, first.Last)
			var unknown *CommitUnknownError
			require.ErrorAs(t, err, &unknown)
			require.EqualValues(t, 1, p.cuts.Load())

			// What the processor does: ask, and try again from there.
			flushed, err := sink.Flushed(t.Context())
			require.NoError(t, err)
			if where == cutAfter {
				require.Equal(t, second.Last, flushed)
			} else {
				require.Equal(t, first.Last, flushed)
				require.NoError(t, sink.Flush(t.Context(), second, flushed))
			}
			requireExactly(t, db, s.rows)
			require.Equal(t, float64(len(s.rows)), testutil.ToFloat64(db.counters.rows.WithLabelValues("records")))

			// One that does not ask gets a conflict, and still stores nothing twice.
			var conflict *ConflictError
			require.ErrorAs(t, sink.Flush(t.Context(), second, first.Last), &conflict)
			requireExactly(t, db, s.rows)
		})
	}
}

func TestMetricsOfAnUnknownCommitAreStoredOnce(t *testing.T) {
	for name, where := range map[string]cut{"lost before the server has it": cutBefore, "lost with its answer": cutAfter} {
		t.Run(name, func(t *testing.T) {
			p, dsn := newProxy(t, preparedDSN(t))
			db := open(t, Config{DSN: dsn})
			w := NewMetricWriter(db)
			batches := [][]Metric{someMetrics("first", 3), someMetrics("second", 4), someMetrics("third", 5)}
			for i, batch := range batches {
				if i == 1 {
					p.next.Store(int32(where))
					var unknown *CommitUnknownError
					_, err := w.Write(t.Context(), batch)
					require.ErrorAs(t, err, &unknown)
				}
				written, err := w.Write(t.Context(), batch)
				require.NoError(t, err)
				require.Equal(t, Written{Rows: len(batch)}, written)
			}
			require.EqualValues(t, 1, p.cuts.Load())
			require.Equal(t, append(append(batches[0], batches[1]...), batches[2]...), storedMetrics(t, db))
		})
	}
}

// preparedDSN returns the DSN of a migrated database.
func preparedDSN(t testing.TB) string {
	db := prepared(t)
	config := db.pool.Config().ConnConfig
	require.NotEmpty(t, config.Database)
	return pgxDSN(config)
}

func pgxDSN(c *pgx.ConnConfig) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(c.User, c.Password), Host: fmt.Sprintf("%s:%d", c.Host, c.Port),
		Path: c.Database, RawQuery: "sslmode=disable",
	}
	return u.String()
}
