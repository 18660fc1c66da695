// Package tunnel holds the seam of the secondary problem: IP packets, both ways.
//
// A Port is one end that packets go into and come out of: a kernel device, a
// userspace NAT, a link to the peer. Join carries packets between two of them.
// Nothing here knows which Ports there are.
package tunnel

import "net/netip"

// MaxPacket is the largest Data of a Packet in octets: an IPv6 super-packet with
// its 40-octet header and a payload length field of 65,535 (RFC 8200, section 3).
const MaxPacket = 40 + 65535

// BatchSize is how many Packets callers offer to ReadPackets: enough to fill a
// batch with 1500-octet packets, and no more than writev(2) takes with two
// buffers each (IOV_MAX is 1,024).
const BatchSize = 256

// A Packet is one IP packet, or one super-packet that the receiving kernel or
// stack cuts up.
type Packet struct {
	Data []byte  // from the IP header on; borrowed until the next call on the Port that filled it
	GSO  Offload // what is left to do: segment size, checksum; zero for an ordinary, complete packet
}

// A Port is where packets enter and leave. One goroutine may read while another
// writes; no more than one each.
type Port interface {
	// ReadPackets blocks for one packet, then takes what is there without
	// waiting, at most len(p). The Data of the packets it fills in is valid
	// until the next ReadPackets. After Close it returns net.ErrClosed.
	ReadPackets(p []Packet) (n int, err error)

	// WritePackets takes all of p or fails; it keeps no reference to p or its
	// Data, and leaves the octets of Data as they were. It blocks while the
	// other side is full. A packet that this Port
	// cannot carry (too large for its MTU, malformed) is dropped and counted, not
	// an error: one bad packet must not end a tunnel.
	WritePackets(p []Packet) error

	// Caps says what WritePackets takes. It does not change.
	Caps() Caps

	// Close wakes ReadPackets and WritePackets. It may be called more than once.
	Close() error
}

// Caps says what a Port's WritePackets takes.
type Caps struct {
	MTU      int      // the largest ordinary IP packet in octets, 68 to 65535; below 1280 only IPv4 (RFC 791, section 3.2; RFC 8200, section 5)
	Offloads Offloads // which super-packets and unfinished checksums it takes
}

// Offloads is a set of offloads.
type Offloads uint8

// The offloads, as bits of an Offloads.
const (
	OffloadChecksum Offloads = 1 << iota // transport checksums still to be completed
	OffloadTSO4                          // TCP over IPv4 super-packets
	OffloadTSO6                          // TCP over IPv6 super-packets
	OffloadUSO                           // UDP super-packets, IPv4 and IPv6
)

// Has reports whether all of want are in o.
func (o Offloads) Has(want Offloads) bool { return o&want == want }

// GSOType says what kind of super-packet a packet is.
type GSOType uint8

// The kinds of super-packets.
const (
	GSONone GSOType = iota // an ordinary packet
	GSOTCP4                // TCP over IPv4
	GSOTCP6                // TCP over IPv6
	GSOUDP                 // UDP over IPv4 or IPv6: every segment a datagram
)

// An Offload says what the sender left for the receiver to do. These are the
// facts of the kernel's virtio_net_hdr (Virtual I/O Device 1.2, section 5.1.6)
// that the packet itself does not tell; Parse gives the others, so that a peer
// has nothing to lie about.
type Offload struct {
	Type          GSOType
	NeedsChecksum bool   // the TCP or UDP checksum field holds the sum of the pseudo-header; complete it. Always so with a Type.
	SegmentSize   uint16 // payload octets in each segment but the last; 0 without a Type
}

// Agreed is what the two halves agreed upon when the link opened. It is a plain
// value: who applies it is the caller's affair.
type Agreed struct {
	Local []netip.Prefix // our addresses inside the tunnel
	Peer  []netip.Addr   // the peer's addresses inside the tunnel; empty when it has none
	DNS   []netip.Addr   // resolvers that answer through the tunnel
	MTU   int            // the largest ordinary IP packet in octets, as in Caps
}
