package pgproxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// connection is one client's. run passes on what the client sends, and starts the goroutine for what the server answers.
type connection struct {
	proxy  *Proxy
	client net.Conn
	ended  chan struct{} // closed by the first cut

	mu     sync.Mutex // never held when the proxy's is taken, which is held over cut
	server net.Conn
	isCut  bool
	// awaited is the AfterCommit fault of the COMMIT that is under way; nil: none.
	awaited *fault

	// Of the goroutine that reads from the client.
	tables    map[string]bool // that the transaction copies into
	copying   string          // the table of the COPY under way
	copyBytes int             // of its data, passed on
}

func newConnection(p *Proxy, client net.Conn) *connection {
	return &connection{proxy: p, client: client, ended: make(chan struct{}), tables: make(map[string]bool)}
}

// cut closes both sides.
func (c *connection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isCut {
		return
	}
	c.isCut = true
	close(c.ended)
	_ = c.client.Close()
	if c.server != nil {
		_ = c.server.Close()
	}
}

// connect dials the server; false where that fails or the connection was cut meanwhile.
func (c *connection) connect() bool {
	server, err := net.Dial("tcp", c.proxy.server)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = server
	if c.isCut {
		_ = server.Close()
	}
	return !c.isCut
}

// run returns when the connection has ended and its goroutines with it. An error of either side ends it, as it would without a proxy.
func (c *connection) run() {
	defer c.cut()
	defer c.settle()
	c.proxy.pass(c)
	if !c.connect() {
		return
	}
	var answers sync.WaitGroup
	defer answers.Wait()
	defer c.cut()
	reader := bufio.NewReaderSize(c.client, 64<<10)
	if err := c.startup(reader); err != nil {
		return
	}
	answers.Go(func() {
		defer c.cut()
		c.passAnswers()
	})
	for message := []byte(nil); ; {
		var err error
		if message, err = readMessage(reader, message); err != nil {
			return
		}
		if !c.passRequest(message) {
			return
		}
	}
}

// settle arms the fault of a COMMIT again that was never answered.
func (c *connection) settle() {
	c.mu.Lock()
	f := c.awaited
	c.awaited = nil
	c.mu.Unlock()
	if f != nil {
		c.proxy.giveBack(f)
	}
}

// Codes in the place of a protocol version. The client asks for encryption before it starts; it is told that there is none.
const (
	codeTLS    = 80877103
	codeGSSAPI = 80877104
)

// startup passes on the one message that has no type.
func (c *connection) startup(reader io.Reader) error {
	for {
		var header [8]byte
		if _, err := io.ReadFull(reader, header[:]); err != nil {
			return err
		}
		n, code := binary.BigEndian.Uint32(header[:]), binary.BigEndian.Uint32(header[4:])
		if n < 8 || n > maxMessageBytes {
			return fmt.Errorf("pgproxy: a first message of %d bytes", n)
		}
		if code == codeTLS || code == codeGSSAPI {
			if _, err := c.client.Write([]byte{'N'}); err != nil {
				return err
			}
			continue
		}
		message := make([]byte, n)
		copy(message, header[:])
		if _, err := io.ReadFull(reader, message[8:]); err != nil {
			return err
		}
		_, err := c.server.Write(message)
		return err
	}
}

// Types of messages. A client's and a server's may have the same letter.
const (
	typeQuery           = 'Q'
	typeCopyData        = 'd'
	typeCommandComplete = 'C'
	typeErrorResponse   = 'E'
)

// passRequest passes a client's message on; false where the connection is to end.
func (c *connection) passRequest(message []byte) bool {
	c.proxy.pass(c)
	switch message[0] {
	case typeQuery:
		if !c.query(strings.TrimRight(string(message[headerBytes:]), "\x00; \n")) {
			return false
		}
	case typeCopyData:
		if f := c.takeInCopy(len(message) - headerBytes); f != nil {
			// The server gets the header and not all of what it announces.
			_, _ = c.server.Write(message[:headerBytes+f.CopyBytes-c.copyBytes])
			c.happens(f)
			return false
		}
		c.copyBytes += len(message) - headerBytes
	}
	_, err := c.server.Write(message)
	return err == nil
}

// query looks at a statement before it is passed on; false where it must not be.
func (c *connection) query(sql string) bool {
	words := strings.Fields(strings.ToLower(sql))
	switch {
	case len(words) == 0:
	case words[0] == "begin":
		clear(c.tables)
	case words[0] == "copy" && len(words) > 1:
		c.copying, c.copyBytes = words[1], 0
		c.tables[words[1]] = true
	case words[0] == "commit":
		return c.commit()
	}
	return true
}

func (c *connection) commit() bool {
	f := c.proxy.take(func(f *fault) bool {
		return f.Point != InCopy && (f.Table == "" || c.tables[f.Table])
	})
	if f == nil {
		return true
	}
	if f.Point == BeforeCommit {
		c.happens(f)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awaited = f
	return true
}

// takeInCopy returns the fault that the next n bytes of a COPY reach; nil for none.
func (c *connection) takeInCopy(n int) *fault {
	return c.proxy.take(func(f *fault) bool {
		reached := c.copyBytes <= f.CopyBytes && f.CopyBytes < c.copyBytes+n
		return f.Point == InCopy && reached && (f.Table == "" || f.Table == c.copying)
	})
}

// happens cuts the connection. When others learn of the fault it is cut.
func (c *connection) happens(f *fault) {
	c.cut()
	close(f.happened)
}

// passAnswers passes on what the server sends, until either side ends or a fault comes.
func (c *connection) passAnswers() {
	reader := bufio.NewReaderSize(c.server, 64<<10)
	for message := []byte(nil); ; {
		var err error
		if message, err = readMessage(reader, message); err != nil {
			return
		}
		c.proxy.pass(c)
		if f := c.answersCommit(message); f != nil {
			c.happens(f)
			return
		}
		if _, err := c.client.Write(message); err != nil {
			return
		}
	}
}

// answersCommit returns the fault that waits for a COMMIT's answer where message is one that says that it has committed. Any other answer
// arms the fault again.
func (c *connection) answersCommit(message []byte) *fault {
	if message[0] != typeCommandComplete && message[0] != typeErrorResponse {
		return nil
	}
	if string(message[headerBytes:]) != "COMMIT\x00" {
		c.settle()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.awaited
	c.awaited = nil
	return f
}

const (
	headerBytes = 5 // type and length
	// maxMessageBytes is far above the largest row of a record.
	maxMessageBytes = 256 << 20
)

// readMessage reads one message into buffer, which it returns, grown where it was too small.
func readMessage(r io.Reader, buffer []byte) ([]byte, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return buffer, err
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n < 4 || n > maxMessageBytes {
		return buffer, fmt.Errorf("pgproxy: a message of %d bytes", n)
	}
	if total := int(n) + 1; cap(buffer) < total {
		buffer = make([]byte, total)
	} else {
		buffer = buffer[:total]
	}
	copy(buffer, header[:])
	_, err := io.ReadFull(r, buffer[headerBytes:])
	return buffer, err
}
