package front

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// firstRoom is what is made for a ClientHello or a request in the beginning, in octets; it
// doubles as they come, so that a length alone costs nothing.
const firstRoom = 512

// A Conn is one connection, from its first octet on: what was read to know it is read
// again. Its methods are net.Conn's, and may be called as those.
type Conn struct {
	net.Conn
	Listener string // which it came by, for logs

	server *Server
	source netip.Prefix // not valid: of a Unix socket
	place  place        // among those that wait
	timer  *time.Timer  // of Config.Patience

	authenticated, closed atomic.Bool

	first [2 * maxMark]byte // where head begins
	head  []byte            // read, and not read again yet
}

// Read reads, first what was read already.
func (c *Conn) Read(b []byte) (int, error) {
	if c.head == nil {
		return c.Conn.Read(b)
	}
	n := copy(b, c.head)
	if c.head = c.head[n:]; len(c.head) == 0 {
		c.head = nil
	}
	return n, nil
}

// WriteBuffers writes the buffers in their order, all of them or fails, in as few
// system calls as writev(2) allows.
func (c *Conn) WriteBuffers(buffers net.Buffers) error {
	if len(buffers) == 0 {
		return nil
	}
	_, err := buffers.WriteTo(c.Conn)
	return err
}

// CloseWrite ends what we write, as the peer's Read will say by io.EOF. Read goes on.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Authenticated says that the peer has proved who it is: it no longer has to give way,
// and has all the time it wants. It reports whether that was in time; otherwise the
// connection is closed.
func (c *Conn) Authenticated() bool {
	if c.server.waiting.remove(c) {
		c.timer.Stop()
		c.authenticated.Store(true)
	}
	return c.authenticated.Load() && !c.closed.Load()
}

// Close closes the connection. Closing it again is no error.
func (c *Conn) Close() error {
	if !c.forget() {
		return nil
	}
	return c.Conn.Close()
}

// drop closes the connection without any goodbye: nothing of it is left in the kernel.
func (c *Conn) drop() {
	if !c.forget() {
		return
	}
	if t, ok := c.Conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Conn.Close()
}

// late closes a connection whose peer has not proved who it is.
func (c *Conn) late() {
	if c.place.waits.Load() {
		c.server.stats.Late.Add(1)
		c.drop()
	}
}

// forget takes the connection out of the Server's books, once.
func (c *Conn) forget() bool {
	if c.closed.Swap(true) {
		return false
	}
	s := c.server
	s.waiting.remove(c)
	c.timer.Stop()
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	s.stats.Open.Add(-1)
	return true
}

// know reads until it is known what c is, and says nothing. Whoever has not said a word
// for a while is one of SSH who waits for ours. kindMore: it has ended before.
func (s *Server) know(c *Conn) kind {
	if s.SSH != nil {
		c.SetReadDeadline(time.Now().Add(s.Silence))
	}
	known := kindMore
	for known == kindMore {
		n, err := c.Conn.Read(c.first[len(c.head):])
		if n == 0 && len(c.head) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			c.SetReadDeadline(time.Time{})
			known = kindSSH
			break
		}
		if n == 0 && err != nil {
			return kindMore
		}
		c.head = c.first[:len(c.head)+n]
		known = tell(c.head, s.LineOctet, s.Line != nil)
		if s.SSH != nil {
			c.SetReadDeadline(time.Time{}) // it is not silent
		}
	}
	switch known {
	case kindHello:
		known = s.knowHello(c)
	case kindHTTP:
		known = c.knowRequest()
	}
	if known != kindMore {
		s.waiting.spoke(c)
	}
	return known
}

// knowHello reads the ClientHello that c has begun.
func (s *Server) knowHello(c *Conn) kind {
	for {
		whole, err := helloWhole(c.head)
		if err != nil || !whole && len(c.head) >= maxHello {
			return kindNone
		}
		if whole {
			protos, err := helloProtos(c.head)
			if err != nil {
				return kindNone
			}
			return helloKind(protos, s.Proto)
		}
		if err := c.readMore(maxHello); err != nil {
			return kindMore
		}
	}
}

// knowRequest reads the head of the request that c has begun (RFC 9112, section 2.1), as
// far as a web server would: who is slow to send it costs less here than there.
func (c *Conn) knowRequest() kind {
	for sought := 0; len(c.head) < webHeader; {
		from := c.head[max(sought-3, 0):]
		if bytes.Contains(from, []byte("\n\r\n")) || bytes.Contains(from, []byte("\n\n")) {
			break
		}
		sought = len(c.head)
		if err := c.readMore(webHeader); err != nil {
			return kindMore
		}
	}
	return kindHTTP
}

// readMore reads more of what is not known yet, most octets in all.
func (c *Conn) readMore(most int) error {
	if len(c.head) == cap(c.head) {
		c.head = append(make([]byte, 0, min(max(2*cap(c.head), firstRoom), most)), c.head...)
	}
	n, err := c.Conn.Read(c.head[len(c.head):cap(c.head)])
	if c.head = c.head[:len(c.head)+n]; n > 0 {
		return nil
	}
	return err
}
