package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// An Ending is how a connection by a Cutter ends.
type Ending int

// The endings that a network has for connections.
const (
	Reset   Ending = iota // a reset to both ends (RFC 9293, section 3.5.2)
	Finish                // an orderly end to both, in the middle of what they say
	Silence               // what comes is taken and thrown away, and neither end is told
	Spare                 // it goes on, and only Told is called: to end it by other means
)

func (e Ending) String() string {
	return [...]string{"reset", "finish", "silence", "spare"}[e]
}

// A Cut says when and how one connection ends.
type Cut struct {
	After int64 // octets that pass before it, both directions together; less than 0: never
	How   Ending
	Told  func(time.Time) // is told when it was; it may be nil
}

// A Cutter relays TCP connections, each until its own Cut.
type Cutter struct {
	services *services
}

// cutterChunk is how many octets a Cutter reads at once.
const cutterChunk = 32 << 10

// Cutter begins to relay from a port of all the machine's addresses to an address as the
// machine sees it. For each connection it calls next, from one goroutine at a time. It
// ends with the Lab unless Close ends it before.
func (m *Machine) Cutter(port uint16, to netip.AddrPort, next func() Cut) (*Cutter, error) {
	s, err := newServices(m, maxRelayed)
	if err != nil {
		return nil, err
	}
	listener, err := m.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("lab: %s: listening for a cutter: %w", m.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Cutter{services: s}
	s.closers = append(s.closers, closerFunc(cancel))
	var mu sync.Mutex
	s.accept(listener, func(client net.Conn) {
		mu.Lock()
		cut := next()
		mu.Unlock()
		server, err := m.Dial(ctx, "tcp", to.String())
		if err != nil {
			return
		}
		if !s.hold(server) {
			server.Close()
			return
		}
		defer s.release(server)
		relayUntil(cut, client.(*net.TCPConn), server.(*net.TCPConn))
	})
	return c, nil
}

// Close ends the cutter and its connections, and waits for them.
func (c *Cutter) Close() error {
	c.services.close()
	return nil
}

// A cutting is one connection until its Cut.
type cutting struct {
	Cut
	client, server *net.TCPConn

	mu     sync.Mutex
	passed int64
	done   bool // the Cut was made
}

// relayUntil carries a connection to its end.
func relayUntil(cut Cut, client, server *net.TCPConn) {
	c := &cutting{Cut: cut, client: client, server: server}
	var both sync.WaitGroup
	both.Go(func() { c.carry(server, client) })
	both.Go(func() { c.carry(client, server) })
	both.Wait()
}

// carry brings octets from one end to the other until either ends or the Cut is made.
func (c *cutting) carry(to, from *net.TCPConn) {
	buf := make([]byte, cutterChunk)
	for {
		n, err := from.Read(buf)
		pass, now := c.pass(n)
		if pass > 0 {
			if _, err := to.Write(buf[:pass]); err != nil {
				from.Close()
				return
			}
		}
		if now {
			c.end()
		}
		if err == io.EOF && c.mayTell() {
			to.CloseWrite()
			return
		}
		if err != nil {
			if c.mayTell() {
				to.SetLinger(0)
				to.Close()
			}
			return
		}
	}
}

// pass says how many of n more octets pass, and whether the Cut is to be made now.
func (c *cutting) pass(n int) (pass int, now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done && c.How != Spare {
		return 0, false
	}
	if c.done || c.After < 0 || c.passed+int64(n) < c.After {
		c.passed += int64(n)
		return n, false
	}
	c.done = true
	if c.How == Spare {
		return n, true
	}
	return int(c.After - c.passed), true
}

// mayTell reports whether the end of one end is passed on to the other.
func (c *cutting) mayTell() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.done || c.How != Silence
}

// end makes the Cut.
func (c *cutting) end() {
	switch c.How {
	case Reset:
		for _, conn := range []*net.TCPConn{c.client, c.server} {
			conn.SetLinger(0)
			conn.Close()
		}
	case Finish:
		for _, conn := range []*net.TCPConn{c.client, c.server} {
			conn.CloseWrite()
		}
	}
	if c.Told != nil {
		c.Told(time.Now())
	}
}
