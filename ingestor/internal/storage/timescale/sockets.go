package timescale

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// sockets are those of a pool's connections and cancel requests. The driver says goodbye on each of them and waits for 15 seconds where
// nobody answers; an end that must not take so long closes them itself. Safe for concurrent use.
type sockets struct {
	mu     sync.Mutex
	closed bool
	open   map[*socket]struct{}
}

type socket struct {
	net.Conn
	of *sockets
}

var errPoolClosed = errors.New("timescale: the pool of connections is closed")

// dialWith returns a dial function that keeps what dial makes.
func (s *sockets) dialWith(dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return nil, errors.Join(errPoolClosed, conn.Close())
		}
		if s.open == nil {
			s.open = make(map[*socket]struct{})
		}
		kept := &socket{Conn: conn, of: s}
		s.open[kept] = struct{}{}
		return kept, nil
	}
}

// Close may be called more than once.
func (c *socket) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// close ends all sockets, and lets none be made any more.
func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		_ = c.Conn.Close() // nobody is there to be told
	}
	s.open = nil
}
