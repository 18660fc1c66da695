package usernat

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// How the memory of connections is kept within Limits.Buffered.
//
// The stack does not say how much of a buffer is in use, so a direction that
// stands still is charged with the whole of its buffer, and one that moves with
// nothing: what it holds is on its way out. While half the limit is charged no
// buffer grows. Over the limit no connection is opened, and those that have
// stood still for stallPatience are reset, the oldest first.
const (
	stallPatience = 10 * time.Second
	auditEvery    = time.Second
	growthShare   = 8 // a buffer may grow to this part of what is not charged
)

// A stall says since when a direction of a connection stands still, and what
// that is charged. It is the pump's, and the audit's to read.
type stall struct {
	since  atomic.Int64 // nanoseconds of the Unix clock; 0: it moves
	charge atomic.Int64 // octets
}

// conns are the open connections and what they are charged with.
type conns struct {
	limit   int64        // octets; Limits.Buffered
	charged atomic.Int64 // octets

	mu     sync.Mutex
	m      map[*conn]struct{}
	closed bool
}

// add enters c. After reset it reports false.
func (t *conns) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.m == nil {
		t.m = make(map[*conn]struct{})
	}
	t.m[c] = struct{}{}
	return true
}

func (t *conns) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, c)
}

// size returns how many connections are open.
func (t *conns) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// tight reports whether buffers should stay as they are.
func (t *conns) tight() bool { return t.charged.Load() > t.limit/2 }

// over reports whether the limit is reached.
func (t *conns) over() bool { return t.charged.Load() > t.limit }

// begin notes that the direction s of c stands still with a buffer of n octets.
func (s *stall) begin(c *conn, n int64) {
	s.since.CompareAndSwap(0, time.Now().UnixNano())
	c.n.conns.charged.Add(n - s.charge.Swap(n))
}

// end notes that the direction s of c moves.
func (s *stall) end(c *conn) {
	if s.since.Load() != 0 {
		s.since.Store(0)
		c.n.conns.charged.Add(-s.charge.Swap(0))
	}
}

// reset resets every connection, and those to come.
func (t *conns) reset() {
	t.mu.Lock()
	t.closed = true
	all := make([]*conn, 0, len(t.m))
	for c := range t.m {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		c.reset()
	}
}

// oldest returns the connection that has stood still longest, if that is
// stallPatience and the limit is passed.
func (t *conns) oldest(now time.Time) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over() {
		return nil
	}
	var found *conn
	since := now.Add(-stallPatience).UnixNano()
	for c := range t.m {
		for _, s := range [2]*stall{&c.up, &c.down} {
			if at := s.since.Load(); at != 0 && at < since {
				found, since = c, at
			}
		}
	}
	return found
}

// audit holds the connections to Limits.Buffered until Close.
func (n *NAT) audit() {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	growth := maxBuffer
	for {
		select {
		case <-n.ctx.Done():
			return
		case now := <-tick.C:
			for c := n.conns.oldest(now); c != nil; c = n.conns.oldest(now) {
				n.count.memory.Add(1)
				c.reset()
				c.up.end(c)
				c.down.end(c)
			}
			if g := n.growth(int(n.conns.charged.Load())); g != growth {
				growth = g
				n.limitGrowth(g)
			}
		}
	}
}

// growth is how far a buffer may grow while charged octets are held, a power of
// two so that it seldom changes.
func (n *NAT) growth(charged int) int {
	g := maxBuffer
	for g > receiveBuffer && g > (n.c.Limits.Buffered-charged)/growthShare {
		g /= 2
	}
	return g
}

func (n *NAT) limitGrowth(g int) {
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: sendBuffer, Max: g}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: receiveBuffer, Max: g}
	n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send)
	n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &receive)
}
