package server

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Connection is what a client came by: it carries a Session for as long as it is open.
// Its fields do not change once it is used.
type Connection struct {
	io.ReadWriteCloser
	By   string     // the way: "tls", "ssh"
	From string     // where it comes from, for people
	Addr netip.Addr // the same, as far as it is known; else invalid

	// HangUp, if not nil, ends what is below without a last word, which wakes whoever
	// waits for one of the other side. It may be called after Close, and at any time.
	HangUp func()

	heard atomic.Int64 // when something came last, nanoseconds since began
	gone  chan struct{}

	mu      sync.Mutex
	closed  bool
	carries *Session
}

// began is when this process did: times are kept as nanoseconds since.
var began = time.Now()

// NewConnection makes a Connection of c, which it owns. What else is to be set in it is
// set before it is used.
func NewConnection(c io.ReadWriteCloser, by, from string, addr netip.Addr) *Connection {
	n := &Connection{ReadWriteCloser: c, By: by, From: from, Addr: addr, gone: make(chan struct{})}
	n.heard.Store(int64(time.Since(began)))
	return n
}

// Read reads from the connection, and notes that something came.
func (c *Connection) Read(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(b)
	if n > 0 {
		c.heard.Store(int64(time.Since(began)))
	}
	return n, err
}

// WriteBuffers writes many buffers at once where the connection below can.
func (c *Connection) WriteBuffers(buffers net.Buffers) error {
	return writeBuffers(c.ReadWriteCloser, buffers)
}

// Close closes the connection. The session that it carries is away then, unless another
// connection carries it.
func (c *Connection) Close() error {
	c.mu.Lock()
	closed, session := c.closed, c.carries
	c.closed = true
	c.mu.Unlock()
	err := c.ReadWriteCloser.Close()
	if closed {
		return err
	}
	close(c.gone)
	if session != nil {
		session.leave(c)
	}
	return err
}

// cut ends a connection that its client has left for another: there is nobody at its other
// end to take leave of.
func (c *Connection) cut() {
	if c.HangUp != nil {
		c.HangUp()
	}
	c.Close()
}

// Gone is closed when the connection is, by whomever.
func (c *Connection) Gone() <-chan struct{} { return c.gone }

// writeBuffers writes the buffers in their order to w, in one call where w can.
func writeBuffers(w io.Writer, buffers net.Buffers) error {
	if b, ok := w.(interface{ WriteBuffers(net.Buffers) error }); ok {
		return b.WriteBuffers(buffers)
	}
	n := 0
	for _, b := range buffers {
		n += len(b)
	}
	gathered := make([]byte, 0, n)
	for _, b := range buffers {
		gathered = append(gathered, b...)
	}
	_, err := w.Write(gathered)
	return err
}
