package fair

import (
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// An entry is a packet that waits, in a buffer of its own.
type entry struct {
	next          *entry
	at            time.Duration // when it came
	tunnel.Cutter               // of the packet
	known         bool          // it is what it says, and Header is its
	judged        bool          // codel has let it pass, or its next piece
	told          bool          // its sender has been told directly
	begun         bool          // pieces of it have gone
	excused       bool          // it is not to be blamed for how long it waits
	buf           []byte        // where it lies
	class         int           // of buf's size
}

// The sizes of buffers: an acknowledgement, a frame of Ethernet, a packet of a tunnel's
// usual MTU, the super-packets of two and of four of those, and the largest. Memory is what
// bounds a Queue, so little of it is wasted on what comes most.
var sizes = [...]int{256, 2 << 10, 9 << 10, 18 << 10, 36 << 10, tunnel.MaxPacket + 1}

// pools hold the entries that nobody uses, by the size of their buffers, for all Queues.
var pools [len(sizes)]sync.Pool

// newEntry returns an entry with a copy of p, which came at at. header is what Check says
// of it, if that accepts it.
func newEntry(at time.Duration, p tunnel.Packet, header tunnel.Header, known bool, offloads tunnel.Offloads) *entry {
	class := 0
	for sizes[class] < len(p.Data) {
		class++
	}
	e, _ := pools[class].Get().(*entry)
	if e == nil {
		e = &entry{buf: make([]byte, sizes[class]), class: class}
	}
	p.Data = append(e.buf[:0], p.Data...)
	*e = entry{
		at:     at,
		Cutter: tunnel.Cutter{Packet: p, Header: header, Size: int(p.GSO.SegmentSize), Offloads: offloads},
		known:  known,
		buf:    e.buf,
		class:  e.class,
	}
	return e
}

// free gives e back. Nothing may hold its Data any more.
func (e *entry) free() { pools[e.class].Put(e) }

// left returns how many octets of IP are still there.
func (e *entry) left() int {
	if !e.begun {
		return len(e.Packet.Data)
	}
	return e.Header.Payload + e.Left()
}

// leastPiece is the payload of a piece at least, in octets: what an Ethernet carries.
const leastPiece = 1460

// share returns how many octets of e go at once, when no more than most may, and in how
// many segments; 0 segments: all of it, as it lies there.
func (e *entry) share(most int) (octets, segments int) {
	if !e.begun {
		if len(e.Packet.Data) <= most || !e.divisible() {
			return len(e.Packet.Data), 0
		}
		if e.Packet.GSO.Type == tunnel.GSONone {
			e.Size = max(most-e.Header.Payload, leastPiece)
		}
	}
	segments = max((most-e.Header.Payload)/e.Size, 1)
	return e.Header.Payload + min(segments*e.Size, e.Left()), segments
}

// loseSegment takes the first segment off a super-packet, and reports whether something
// is left of it.
func (e *entry) loseSegment() bool {
	if !e.known || e.Packet.GSO.Type == tunnel.GSONone || e.Left() <= e.Size {
		return false
	}
	e.Skip(1)
	e.begun = true
	return true
}

// TCP header flags and option kinds (RFC 9293, sections 3.1 and 3.2; RFC 2018; RFC 7323).
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
	tcpURG = 0x20

	optionEnd        = 0
	optionNothing    = 1
	optionSACK       = 5
	optionTimestamps = 8
)

// divisible reports whether e may be cut into several packets: a super-packet, or TCP with
// nothing that points into the payload, and no option that speaks of the whole, as a
// signature does (RFC 2385, RFC 5925).
func (e *entry) divisible() bool {
	d, h := e.Packet.Data, e.Header
	if !e.known || e.Packet.GSO.Type != tunnel.GSONone {
		return e.known
	}
	if h.Protocol != tunnel.ProtoTCP || h.Fragment || d[h.Transport+13]&(tcpSYN|tcpRST|tcpURG) != 0 {
		return false
	}
	for options := d[h.Transport+20 : h.Payload]; len(options) > 0; {
		switch options[0] {
		case optionEnd:
			return true
		case optionNothing:
			options = options[1:]
		case optionSACK, optionTimestamps:
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return false
			}
			options = options[options[1]:]
		default:
			return false
		}
	}
	return true
}
