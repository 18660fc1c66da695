package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// How the memory of connections is kept within Options.Buffered.
//
// The stack does not say how much of a buffer is in use. So a direction that
// stands still is charged with the whole of its buffer; one that moves with
// nothing, since what it holds is on its way out, unless its buffer has grown:
// then it is charged until it has been quiet for a while and is cut back. No
// buffer grows beyond a share of what is not charged, so that a few fast
// connections have large ones and many have small ones. Over the limit no
// connection is opened, and those that have stood still for stallPatience are
// reset, the oldest first.
const (
	stallPatience = 10 * time.Second
	quietFor      = 10 * time.Second // before a grown buffer is cut back
	auditEvery    = time.Second
	growthShare   = 6 // a buffer may grow to this part of what is not charged
)

// A stall says since when a direction of a connection stands still, and what it
// is charged with. It is the pump's, and the audit's to read.
type stall struct {
	since  atomic.Int64 // nanoseconds of the Unix clock; 0: it moves
	moved  atomic.Int64 // when it last began to move again
	charge atomic.Int64 // octets
}

// conns are the open connections and what they are charged with.
type conns struct {
	limit   int64        // octets; Options.Buffered
	charged atomic.Int64 // octets
	growth  atomic.Int64 // how far receive buffers may grow, as the stack was told last

	mu     sync.Mutex
	m      map[*Conn]struct{}
	closed bool

	names names
}

// add enters c. After reset it reports false.
func (t *conns) add(c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.m == nil {
		t.m = make(map[*Conn]struct{})
	}
	t.m[c] = struct{}{}
	return true
}

func (t *conns) remove(c *Conn) {
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

// over reports whether the limit is reached.
func (t *conns) over() bool { return t.charged.Load() > t.limit }

// begin notes that the direction s of c stands still with a buffer of n octets.
func (s *stall) begin(c *Conn, n int64) {
	s.since.CompareAndSwap(0, time.Now().UnixNano())
	c.s.conns.charged.Add(n - s.charge.Swap(n))
	c.s.limitReceive()
}

// end notes that the direction s of c moves.
func (s *stall) end(c *Conn) {
	if s.since.Load() != 0 {
		s.moved.Store(time.Now().UnixNano())
		s.since.Store(0)
		if s.charge.Load() <= sendBuffer || s == &c.up {
			s.release(c)
		}
	}
}

// release gives back what s is charged with.
func (s *stall) release(c *Conn) { c.s.conns.charged.Add(-s.charge.Swap(0)) }

// reset resets every connection, and those to come.
func (t *conns) reset() {
	t.mu.Lock()
	t.closed = true
	all := make([]*Conn, 0, len(t.m))
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
func (t *conns) oldest(now time.Time) *Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over() {
		return nil
	}
	var found *Conn
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

// cutBack makes the grown send buffers of quiet connections small again.
func (t *conns) cutBack(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := now.Add(-quietFor).UnixNano()
	for c := range t.m {
		if s := &c.down; s.charge.Load() > 0 && s.since.Load() == 0 && s.moved.Load() < before {
			c.ep.SocketOptions().SetSendBufferSize(sendBuffer, true)
			s.release(c)
		}
	}
}

// audit holds the connections to Options.Buffered until Close.
func (s *Stack) audit() {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case now := <-tick.C:
			for c := s.conns.oldest(now); c != nil; c = s.conns.oldest(now) {
				if s.o.OverMemory != nil {
					s.o.OverMemory(c.ends())
				}
				c.reset()
				c.up.release(c)
				c.down.release(c)
			}
			s.conns.cutBack(now)
			s.limitReceive()
		}
	}
}

// ends returns what the connection's endpoint connects: the other side's address
// and ours, not valid when it has ended.
func (c *Conn) ends() (remote, local netip.AddrPort) {
	if a, err := c.ep.GetRemoteAddress(); err == nil {
		remote = netip.AddrPortFrom(AddrOf(a.Addr), a.Port)
	}
	if a, err := c.ep.GetLocalAddress(); err == nil {
		local = netip.AddrPortFrom(AddrOf(a.Addr), a.Port)
	}
	return remote, local
}

// growth is how far a buffer of which charged octets are charged already may
// grow now, in octets: a power of two, so that it seldom changes.
func (s *Stack) growth(charged int64) int64 {
	free := s.conns.limit - s.conns.charged.Load() + charged
	g := int64(maxBuffer)
	for g > ReceiveBuffer && g > free/growthShare {
		g /= 2
	}
	return g
}

// limitReceive tells the stack how far receive buffers may grow now.
func (s *Stack) limitReceive() {
	g := s.growth(0)
	if s.conns.growth.Swap(g) != g {
		receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: ReceiveBuffer, Max: int(g)}
		s.gvisor.SetTransportProtocolOption(tcp.ProtocolNumber, &receive)
	}
}

// grow is called when the send buffer is full. It makes the buffer larger, up to
// what two congestion windows hold (as the stack and Linux do), and reports
// whether there is room now; if not, the direction stands still. (The stack's own
// tuning will not do: with a bound that falls it forgets to say that there is
// room again.)
func (c *Conn) grow() bool {
	size := c.ep.SocketOptions().GetSendBufferSize()
	c.down.begin(c, size)
	var info tcpip.TCPInfoOption
	if c.ep.GetSockOpt(&info) != nil {
		return false
	}
	want := min(2*int64(info.SndCwnd)*int64(c.s.mtu.Load()), c.s.growth(size))
	least := size + size/2
	if most := c.quench.most(time.Now(), info.RTT); most > 0 {
		want, least = min(want, most), size+1
	}
	if want < least {
		return false
	}
	c.down.begin(c, want)
	c.ep.SocketOptions().SetSendBufferSize(want, true)
	return true
}
