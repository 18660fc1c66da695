package tunnel

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
const (
	protoHopByHop = 0
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	ProtoICMPv6   = 58
	protoDestOpts = 60
)

// A Header says where the parts of an IP packet lie.
type Header struct {
	Version   int  // 4 or 6
	Protocol  int  // what follows the IP headers: ProtoTCP, ProtoUDP, or another
	Transport int  // where the transport header begins, from the IP header on
	Payload   int  // where the payload of TCP or UDP begins; Transport for other protocols and for fragments
	Fragment  bool // one of several fragments: there may be no transport header here
}

// ChecksumOffset is where the checksum field of the transport header lies, from
// Transport on: RFC 9293, section 3.1 for TCP, RFC 768 for UDP, else 0.
func (h Header) ChecksumOffset() int {
	switch h.Protocol {
	case ProtoTCP:
		return 16
	case ProtoUDP:
		return 6
	}
	return 0
}

// Addresses returns source and destination of the packet that h was parsed from.
func (h Header) Addresses(data []byte) (src, dst netip.Addr) {
	if h.Version == 4 {
		return netip.AddrFrom4([4]byte(data[12:])), netip.AddrFrom4([4]byte(data[16:]))
	}
	return netip.AddrFrom16([16]byte(data[8:])), netip.AddrFrom16([16]byte(data[24:]))
}

// What Parse says of a packet that it does not understand.
var (
	errShort   = errors.New("tunnel: packet: shorter than its headers")
	errVersion = errors.New("tunnel: packet: neither IPv4 nor IPv6")
	errLength  = errors.New("tunnel: packet: its length field does not match")
)

// Parse finds the headers of an IP packet (RFC 791, section 3.1; RFC 8200,
// sections 3 and 4). The length in the IP header must be that of data. IPv6
// extension headers are walked as far as they are known; the first other one
// is the Protocol. It allocates nothing.
func Parse(data []byte) (Header, error) {
	if len(data) < 20 {
		return Header{}, errShort
	}
	var h Header
	switch data[0] >> 4 {
	case 4:
		ihl := int(data[0]&0x0f) * 4
		if ihl < 20 || ihl > len(data) {
			return Header{}, errShort
		}
		if int(binary.BigEndian.Uint16(data[2:])) != len(data) {
			return Header{}, errLength
		}
		h = Header{Version: 4, Protocol: int(data[9]), Transport: ihl}
		h.Fragment = binary.BigEndian.Uint16(data[6:])&0x3fff != 0 // more fragments, or an offset
	case 6:
		if len(data) < 40 {
			return Header{}, errShort
		}
		if int(binary.BigEndian.Uint16(data[4:]))+40 != len(data) {
			return Header{}, errLength
		}
		h = Header{Version: 6, Protocol: int(data[6]), Transport: 40}
		if err := h.walkExtensions(data); err != nil {
			return Header{}, err
		}
	default:
		return Header{}, errVersion
	}
	h.Payload = h.Transport
	if h.Fragment {
		return h, nil
	}
	switch h.Protocol {
	case ProtoTCP:
		if len(data) < h.Transport+20 {
			return Header{}, errShort
		}
		offset := int(data[h.Transport+12]>>4) * 4
		if offset < 20 || h.Transport+offset > len(data) {
			return Header{}, errShort
		}
		h.Payload += offset
	case ProtoUDP:
		if len(data) < h.Transport+8 {
			return Header{}, errShort
		}
		h.Payload += 8
	}
	return h, nil
}

// walkExtensions moves h past the IPv6 extension headers (RFC 8200, section
// 4). Each is at least 8 octets, so the walk ends.
func (h *Header) walkExtensions(data []byte) error {
	for {
		rest := data[h.Transport:]
		switch h.Protocol {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(rest) < 8 || len(rest) < (int(rest[1])+1)*8 {
				return errShort
			}
			h.Protocol = int(rest[0])
			h.Transport += (int(rest[1]) + 1) * 8
		case protoFragment:
			if len(rest) < 8 {
				return errShort
			}
			h.Protocol = int(rest[0])
			h.Transport += 8
			if binary.BigEndian.Uint16(rest[2:])&0xfff9 != 0 { // an offset, or more fragments
				h.Fragment = true
				return nil
			}
		default:
			return nil
		}
	}
}

// Bounds on what a super-packet may ask of the receiver.
const (
	minTCPSegment  = 48  // Linux's own least (net.ipv4.tcp_min_snd_mss)
	maxUDPSegments = 128 // Linux's UDP_MAX_SEGMENTS
)

// What Check says of offload facts that do not fit the packet.
var (
	errChecksum = errors.New("tunnel: packet: a checksum to complete, but no TCP or UDP header")
	errGSO      = errors.New("tunnel: packet: offload facts that do not fit it")
)

// Check parses p and holds its offload facts against it, so that whatever
// passes may be handed to a kernel or a stack. Packets from a peer go through
// it before anything else.
func (p *Packet) Check() (Header, error) {
	if len(p.Data) > MaxPacket {
		return Header{}, errLength
	}
	h, err := Parse(p.Data)
	if err != nil {
		return Header{}, err
	}
	if p.GSO == (Offload{}) {
		return h, nil
	}
	if !p.GSO.NeedsChecksum || h.Fragment || h.ChecksumOffset() == 0 {
		return Header{}, errChecksum
	}
	if h.Protocol == ProtoUDP && int(binary.BigEndian.Uint16(p.Data[h.Transport+4:])) != len(p.Data)-h.Transport {
		return Header{}, errLength
	}
	payload, size := len(p.Data)-h.Payload, int(p.GSO.SegmentSize)
	ok := false
	switch p.GSO.Type {
	case GSONone:
		ok = size == 0
	case GSOTCP4:
		ok = h.Version == 4 && h.Protocol == ProtoTCP && size >= minTCPSegment && payload > 0
	case GSOTCP6:
		ok = h.Version == 6 && h.Protocol == ProtoTCP && size >= minTCPSegment && payload > 0
	case GSOUDP:
		ok = h.Protocol == ProtoUDP && size > 0 && payload > 0 && (payload+size-1)/size <= maxUDPSegments
	}
	if !ok {
		return Header{}, errGSO
	}
	return h, nil
}
