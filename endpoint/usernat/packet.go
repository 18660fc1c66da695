package usernat

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// Protocol numbers (IANA) of what we look at.
const (
	protoHopByHop  = 0
	protoICMP      = 1
	protoTCP       = 6
	protoUDP       = 17
	protoRouting   = 43
	protoFragment  = 44
	protoICMPv6    = 58
	protoDestOpts  = 60
	headerLen4     = 20 // RFC 791, section 3.1, without options
	headerLen6     = 40 // RFC 8200, section 3
	headerLenUDP   = 8
	headerLenICMP  = 8
	headerLenTCP   = 20
	maxExtensions6 = 8 // extension headers followed before a packet is given up; RFC 8200, section 4.1 knows seven
)

// A header is what the IP header of a packet says, and where its payload lies.
type header struct {
	src, dst netip.Addr
	proto    uint8  // of the payload
	ttl      uint8  // or hop limit
	df       bool   // IPv4: don't fragment
	offset   int    // octets before the payload, options and extension headers included
	end      int    // octets of the packet; what follows is padding
	frag     int    // where in the whole payload this fragment lies, in octets
	more     bool   // more fragments follow
	id       uint32 // which packet the fragment is of
}

// fragment reports whether the packet is a part of one.
func (h *header) fragment() bool { return h.more || h.frag != 0 }

// payload returns the payload of packet, whose header h is.
func (h *header) payload(packet []byte) []byte { return packet[h.offset:h.end] }

// parse reads the IP header of packet (RFC 791, section 3.1; RFC 8200, sections
// 3 and 4). It does not look at the IPv4 header checksum: the tunnel's carrier
// guards the octets, and we send none of this header on. A routing header with
// segments left makes ok false: we are no router (RFC 5095).
func parse(packet []byte) (h header, ok bool) {
	if len(packet) == 0 {
		return h, false
	}
	switch packet[0] >> 4 {
	case 4:
		return parse4(packet)
	case 6:
		return parse6(packet)
	}
	return h, false
}

func parse4(b []byte) (h header, ok bool) {
	if len(b) < headerLen4 {
		return h, false
	}
	h.offset = int(b[0]&0xf) * 4
	h.end = int(binary.BigEndian.Uint16(b[2:]))
	if h.offset < headerLen4 || h.end < h.offset || h.end > len(b) {
		return h, false
	}
	h.id = uint32(binary.BigEndian.Uint16(b[4:]))
	flags := binary.BigEndian.Uint16(b[6:])
	h.df, h.more, h.frag = flags&0x4000 != 0, flags&0x2000 != 0, int(flags&0x1fff)*8
	h.ttl, h.proto = b[8], b[9]
	h.src, h.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return h, true
}

func parse6(b []byte) (h header, ok bool) {
	if len(b) < headerLen6 {
		return h, false
	}
	h.end = headerLen6 + int(binary.BigEndian.Uint16(b[4:]))
	if h.end > len(b) {
		return h, false
	}
	h.df = true
	h.proto, h.ttl = b[6], b[7]
	h.src, h.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	h.offset = headerLen6
	for range maxExtensions6 {
		ext := b[h.offset:h.end]
		switch h.proto {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(ext) < 8 || len(ext) < 8+int(ext[1])*8 {
				return h, false
			}
			if h.proto == protoRouting && ext[3] != 0 {
				return h, false
			}
			h.proto = ext[0]
			h.offset += 8 + int(ext[1])*8
		case protoFragment: // RFC 8200, section 4.5
			if len(ext) < 8 {
				return h, false
			}
			h.proto = ext[0]
			h.offset += 8
			where := binary.BigEndian.Uint16(ext[2:])
			h.frag, h.more = int(where&^7), where&1 != 0
			h.id = binary.BigEndian.Uint32(ext[4:])
			if h.fragment() {
				return h, true // what follows belongs to the whole, not to the part
			}
		default:
			return h, true
		}
	}
	return h, false
}

// putHeader writes the plainest IP header for a packet of src to dst into b,
// which must have room: 20 octets for IPv4, 40 for IPv6. payload is the length
// of what follows it in octets. It returns the header's length.
func putHeader(b []byte, src, dst netip.Addr, proto, ttl uint8, payload int, id uint16) int {
	if src.Is4() {
		b[0], b[1] = 0x45, 0
		binary.BigEndian.PutUint16(b[2:], uint16(headerLen4+payload))
		binary.BigEndian.PutUint16(b[4:], id)
		b[6], b[7] = 0, 0
		b[8], b[9] = ttl, proto
		b[10], b[11] = 0, 0
		s, d := src.As4(), dst.As4()
		copy(b[12:], s[:])
		copy(b[16:], d[:])
		binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:headerLen4], 0))
		return headerLen4
	}
	b[0], b[1], b[2], b[3] = 0x60, 0, 0, 0
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	b[6], b[7] = proto, ttl
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return headerLen6
}

// headerLenOf returns the length of putHeader's header for packets from a.
func headerLenOf(a netip.Addr) int {
	if a.Is4() {
		return headerLen4
	}
	return headerLen6
}

// pseudoSum is the sum over the pseudo-header of a transport payload of length
// octets (RFC 9293, section 3.1; RFC 8200, section 8.1).
func pseudoSum(src, dst netip.Addr, proto uint8, length int) uint16 {
	var b [40]byte
	n := 0
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		n = copy(b[:], s[:])
		n += copy(b[n:], d[:])
	} else {
		s, d := src.As16(), dst.As16()
		n = copy(b[:], s[:])
		n += copy(b[n:], d[:])
	}
	binary.BigEndian.PutUint32(b[n:], uint32(length))
	b[n+7] = proto
	return checksum.Checksum(b[:n+8], 0)
}

// sumHolds reports whether the transport checksum of segment holds. It is for
// packets that say they are complete: an unfinished one has none to hold.
func sumHolds(h *header, segment []byte) bool {
	switch h.proto {
	case protoUDP:
		if h.dst.Is4() && len(segment) >= headerLenUDP && segment[6] == 0 && segment[7] == 0 {
			return true // RFC 768: none was computed
		}
	case protoICMP:
		return checksum.Checksum(segment, 0) == 0xffff // RFC 792: no pseudo-header
	}
	return checksum.Checksum(segment, pseudoSum(h.src, h.dst, h.proto, len(segment))) == 0xffff
}

// putFragment4 makes b, which begins with putHeader's IPv4 header, the fragment
// at octet at.
func putFragment4(b []byte, at int, more bool) {
	where := uint16(at / 8)
	if more {
		where |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], where)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:headerLen4], 0))
}

// putFragment6 writes the eight octets of an IPv6 fragment header (RFC 8200,
// section 4.5) into b.
func putFragment6(b []byte, proto uint8, at int, more bool, id uint32) {
	b[0], b[1] = proto, 0
	where := uint16(at)
	if more {
		where |= 1
	}
	binary.BigEndian.PutUint16(b[2:], where)
	binary.BigEndian.PutUint32(b[4:], id)
}
