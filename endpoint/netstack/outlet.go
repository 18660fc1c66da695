package netstack

import (
	"net"
	"sync"

	"github.com/bodkin-net/bodkin/tunnel"
)

// slabSize is how many octets of packets wait in an Outlet at most: eight
// super-packets. More would be delay and memory; fewer would starve a reader
// that takes a batch at a time. There are two slabs.
const slabSize = 512 << 10

// slabPackets is how many packets wait at most: a reader's two batches. Small
// packets are bounded by number, so that a ping is never behind ten thousand.
const slabPackets = 2 * tunnel.BatchSize

// A slab holds packets, one behind the other in one piece of memory.
type slab struct {
	mem     []byte
	used    int
	packets []tunnel.Packet
}

// slabs are those that no Outlet uses. An Outlet has its slabs only while packets
// are in them, so that a thousand idle tunnels need none.
var slabs = sync.Pool{New: func() any {
	return &slab{mem: make([]byte, slabSize), packets: make([]tunnel.Packet, 0, slabPackets)}
}}

func takeSlab() *slab { return slabs.Get().(*slab) }

// drop gives s back, if there is one.
func (s *slab) drop() {
	if s != nil {
		s.used, s.packets = 0, s.packets[:0]
		slabs.Put(s)
	}
}

// An Outlet is where packets leave: a bounded queue, as a tunnel.Port's reading half
// wants it. Writers put each packet straight into the slab that fills while the
// reader holds the other: one copy, no allocation. Many goroutines write, one reads.
type Outlet struct {
	mu       sync.Mutex
	arrived  sync.Cond // the reader waits here
	room     sync.Cond // writers wait here
	reading  bool      // the reader waits
	writing  int       // writers that wait
	closed   bool
	filling  *slab // nil: nothing waits
	draining *slab // nil: the reader holds nothing
	taken    int   // packets of draining already handed out
}

// NewOutlet returns an empty Outlet.
func NewOutlet() *Outlet {
	o := &Outlet{}
	o.arrived.L, o.room.L = &o.mu, &o.mu
	return o
}

// Reserve returns n octets to write one packet into, n at most tunnel.MaxPacket,
// and keeps the Outlet locked until Commit. When there is no room it waits, or,
// if wait is false, gives up. Without ok there is nothing to commit: there is no
// room, or it is closed.
func (o *Outlet) Reserve(n int, wait bool) (b []byte, ok bool) {
	o.mu.Lock()
	for !o.closed {
		if o.filling == nil {
			o.filling = takeSlab()
		}
		s := o.filling
		if s.used+n <= len(s.mem) && len(s.packets) < cap(s.packets) {
			return s.mem[s.used : s.used+n : s.used+n], true
		}
		if !wait {
			break
		}
		o.writing++
		o.room.Wait()
		o.writing--
	}
	o.mu.Unlock()
	return nil, false
}

// Commit queues the packet written into the octets that Reserve returned.
func (o *Outlet) Commit(b []byte, gso tunnel.Offload) {
	s := o.filling
	s.used += len(b)
	s.packets = append(s.packets, tunnel.Packet{Data: b, GSO: gso})
	if o.reading {
		o.reading = false
		o.arrived.Signal()
	}
	o.mu.Unlock()
}

// ReadPackets fills p as tunnel.Port's ReadPackets does.
func (o *Outlet) ReadPackets(p []tunnel.Packet) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if o.draining != nil && o.taken == len(o.draining.packets) {
			o.draining.drop()
			o.draining = nil
		}
		switch {
		case o.closed:
			return 0, net.ErrClosed
		case o.draining != nil:
			n := copy(p, o.draining.packets[o.taken:])
			o.taken += n
			return n, nil
		case o.filling != nil && len(o.filling.packets) > 0:
			o.filling, o.draining, o.taken = nil, o.filling, 0
			if o.writing > 0 {
				o.room.Broadcast()
			}
		default:
			clear(p) // what it holds from the last time would keep slabs alive
			o.reading = true
			o.arrived.Wait()
			o.reading = false
		}
	}
}

// Waiting returns how many packets wait to be read.
func (o *Outlet) Waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	if o.draining != nil {
		n = len(o.draining.packets) - o.taken
	}
	if o.filling != nil {
		n += len(o.filling.packets)
	}
	return n
}

// Close ends every wait; from now on Reserve gives nothing and ReadPackets
// net.ErrClosed.
func (o *Outlet) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.arrived.Broadcast()
	o.room.Broadcast()
}
