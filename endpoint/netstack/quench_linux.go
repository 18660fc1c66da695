package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/bodkin-net/bodkin/tunnel"
)

// How a Conn sends less when the tunnel's entrance says that its packets wait too long.
//
// A dropped packet would say it too, but cost more than it saves: all that was sent
// behind it is of no use until it was sent again, which takes as long as the queue is, and
// where a way has become ten times slower the stack's timer ends first and all is sent
// twice. So the send buffer is made smaller, which bounds what is in flight: to the part
// that would wait for no longer than is good. Then it grows again, slowly.
const (
	// quiet is how long a packet may well wait: as long as the entrance thinks so too.
	quiet = 50 * time.Millisecond

	// regrowth is the part by which a bound grows each round trip.
	regrowth = 8
)

// A quench bounds the send buffer of a Conn.
type quench struct {
	asked atomic.Int64 // ns that a packet stood in the entrance's queue; 0: nothing was asked

	// The pump's.
	bound   int64         // octets; 0: none
	changed time.Time     // when it did
	least   time.Duration // of the round trips; 0: none is known
}

// Quench asks the Conn that packet comes from to send less, since it has waited for so
// long, and reports whether there is such a Conn. It waits for no lock that is held over
// anything.
func (s *Stack) Quench(packet []byte, stood time.Duration) bool {
	c := s.conns.names.find(packet)
	if c == nil {
		return false
	}
	c.quench.asked.Store(max(1, int64(stood)))
	return true
}

// slower does what Quench asked for. It is the pump's.
func (c *Conn) slower() {
	q := &c.quench
	stood, now := time.Duration(q.asked.Swap(0)), time.Now()
	var info tcpip.TCPInfoOption
	if c.ep.GetSockOpt(&info) == nil {
		q.see(info.RTT)
	}
	if now.Sub(q.changed) < q.least+stood {
		return // this packet was sent before the bound was what it is
	}
	size := c.ep.SocketOptions().GetSendBufferSize()
	// What is in flight and what it waits for go together. The stack asks for more when the
	// buffer is half empty: a round trip's must be left then. A quarter less at least,
	// for what is asked for in vain is asked again.
	part := min(.75, float64(max(2*q.least, q.least+quiet))/float64(q.least+stood))
	// Two packets and a half, so that one is on its way while the next is taken.
	least := min(sendBuffer, int64(c.s.mtu.Load())*5/2)
	q.bound = max(least, int64(float64(size)*part))
	q.changed = now
	c.ep.SocketOptions().SetSendBufferSize(q.bound, true)
}

// see notes a round trip.
func (q *quench) see(trip time.Duration) {
	if trip > 0 && (q.least == 0 || trip < q.least) {
		q.least = trip
	}
}

// most returns how many octets the send buffer may have now, when it is full and round
// trips take trip; 0: there is no bound. Each round trip it is more.
func (q *quench) most(now time.Time, trip time.Duration) int64 {
	q.see(trip)
	if q.bound > 0 && now.Sub(q.changed) >= max(trip, quiet) {
		q.bound += q.bound / regrowth
		q.changed = now
		if q.bound >= maxBuffer {
			q.bound = 0
		}
	}
	return q.bound
}

// A name is what tells connections apart on the packets that they send.
type name struct{ from, to netip.AddrPort }

// name returns that of c's packets.
func (c *Conn) name() name {
	remote, local := c.ends()
	return name{local, remote}
}

// names are the Conns by their names. Its lock is held for no more than a look.
type names struct {
	sync.Mutex
	m map[name]*Conn
}

func (t *names) add(n name, c *Conn) {
	t.Lock()
	defer t.Unlock()
	if t.m == nil {
		t.m = make(map[name]*Conn)
	}
	t.m[n] = c
}

// remove takes c out, unless the name has come to another since.
func (t *names) remove(n name, c *Conn) {
	t.Lock()
	defer t.Unlock()
	if t.m[n] == c {
		delete(t.m, n)
	}
}

// find returns the Conn that sent packet, or nil.
func (t *names) find(packet []byte) *Conn {
	h, err := tunnel.Parse(packet)
	if err != nil || h.Protocol != tunnel.ProtoTCP || h.Fragment {
		return nil
	}
	from, to := h.Addresses(packet)
	ports := packet[h.Transport:]
	n := name{
		netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports)),
		netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:])),
	}
	t.Lock()
	defer t.Unlock()
	return t.m[n]
}
