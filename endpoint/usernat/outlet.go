package usernat

import (
	"net"
	"sync"

	"github.com/bodkin-net/bodkin/tunnel"
)

// slabSize is how many octets of packets wait in the outlet at most: eight
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

// An outlet is where all packets leave the NAT. Writers put each packet straight
// into the slab that fills while the reader holds the other: one copy, no
// allocation, and the queue's memory is fixed. Many goroutines write, one reads.
type outlet struct {
	mu       sync.Mutex
	arrived  sync.Cond // the reader waits here
	room     sync.Cond // writers wait here
	reading  bool      // the reader waits
	writing  int       // writers that wait
	closed   bool
	filling  *slab
	draining *slab
	taken    int // packets of draining already handed out
}

func newOutlet() *outlet {
	o := &outlet{}
	o.arrived.L, o.room.L = &o.mu, &o.mu
	newSlab := func() *slab {
		return &slab{mem: make([]byte, slabSize), packets: make([]tunnel.Packet, 0, slabPackets)}
	}
	o.filling, o.draining = newSlab(), newSlab()
	return o
}

// reserve returns n octets to write one packet into, n at most tunnel.MaxPacket,
// and keeps the outlet locked until commit. When there is no room it waits, or,
// if wait is false, gives up. Without ok there is nothing to commit.
func (o *outlet) reserve(n int, wait bool) (b []byte, ok bool) {
	o.mu.Lock()
	for !o.closed {
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

// commit queues the packet written into the octets that reserve returned.
func (o *outlet) commit(b []byte, gso tunnel.Offload) {
	s := o.filling
	s.used += len(b)
	s.packets = append(s.packets, tunnel.Packet{Data: b, GSO: gso})
	if o.reading {
		o.reading = false
		o.arrived.Signal()
	}
	o.mu.Unlock()
}

// read fills p as tunnel.Port's ReadPackets does.
func (o *outlet) read(p []tunnel.Packet) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if o.closed {
			return 0, net.ErrClosed
		}
		if o.taken == len(o.draining.packets) {
			if len(o.filling.packets) == 0 {
				o.reading = true
				o.arrived.Wait()
				o.reading = false
				continue
			}
			o.draining.used, o.draining.packets, o.taken = 0, o.draining.packets[:0], 0
			o.filling, o.draining = o.draining, o.filling
			if o.writing > 0 {
				o.room.Broadcast()
			}
		}
		n := copy(p, o.draining.packets[o.taken:])
		o.taken += n
		return n, nil
	}
}

// close ends every wait; from now on reserve gives nothing and read net.ErrClosed.
func (o *outlet) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.arrived.Broadcast()
	o.room.Broadcast()
}
