package pgproxy

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy is one listener before one server. Its methods may be called from several goroutines.
type Proxy struct {
	listener net.Listener
	server   string
	dsn      string
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[*connection]struct{}
	faults []*fault      // armed and not happening yet
	held   chan struct{} // nil: all is passed on. Closed by Resume
}

// Start listens on the loopback address, before the server that dsn, a URL, leads to. The caller must Close it.
func Start(dsn string) (*Proxy, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("pgproxy: %w", err)
	}
	through, err := url.Parse(dsn)
	if err != nil || through.Host == "" {
		return nil, errors.New("pgproxy: the dsn must be a URL with a host")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("pgproxy: %w", err)
	}
	through.Host = listener.Addr().String()
	p := &Proxy{
		listener: listener, server: net.JoinHostPort(config.Host, fmt.Sprint(config.Port)), dsn: through.String(),
		conns: make(map[*connection]struct{}),
	}
	p.running.Go(p.accept)
	return p, nil
}

// DSN leads through the proxy.
func (p *Proxy) DSN() string { return p.dsn }

// Close ends the listener and all connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.resumeLocked()
	p.mu.Unlock()
	err := p.listener.Close()
	p.Drop()
	p.running.Wait()
	return err
}

// Hold makes a black hole: from now on nothing is passed on, in either direction, and new connections are accepted and not answered.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
}

// Resume ends Hold. What was sent meanwhile is passed on.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumeLocked()
}

func (p *Proxy) resumeLocked() {
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// Drop closes all connections of this moment, those held included.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.cut()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		c := newConnection(p, client)
		p.mu.Lock()
		closed := p.closed
		if !closed {
			p.conns[c] = struct{}{}
		}
		p.mu.Unlock()
		if closed {
			c.cut()
			continue
		}
		p.running.Go(func() {
			c.run()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.conns, c)
		})
	}
}

// pass returns when messages may be passed on, or the connection is cut.
func (p *Proxy) pass(c *connection) {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-c.ended:
	}
}
