package fair

import (
	"encoding/binary"
	"testing"

	"github.com/bodkin-net/bodkin/tunnel"
)

// segment is a TCP segment of IPv4 from a port, with options (a multiple of 4 octets) and
// payload octets of payload, its checksums left as they are.
func segment(port uint16, seq uint32, flags byte, options []byte, payload int) tunnel.Packet {
	tcp := 20 + len(options)
	d := make([]byte, 20+tcp+payload)
	copy(d, []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 203, 0, 113, 100})
	binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
	binary.BigEndian.PutUint16(d[10:], ^sum(d[:20]))
	binary.BigEndian.PutUint16(d[20:], port)
	binary.BigEndian.PutUint16(d[22:], 80)
	binary.BigEndian.PutUint32(d[24:], seq)
	binary.BigEndian.PutUint32(d[28:], 1)
	d[32], d[33] = byte(tcp/4)<<4, flags
	copy(d[40:], options)
	for i := range payload {
		d[20+tcp+i] = byte(int(seq) + i)
	}
	return tunnel.Packet{Data: d}
}

// bulk is a segment that fills a frame of Ethernet.
func bulk(port uint16, seq uint32) tunnel.Packet { return segment(port, seq, tcpACK, nil, 1460) }

// super is a super-packet of segments of 1,448 octets.
func super(port uint16, seq uint32, payload int) tunnel.Packet {
	p := segment(port, seq, tcpACK|tcpPSH, []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, payload)
	p.GSO = tunnel.Offload{Type: tunnel.GSOTCP4, NeedsChecksum: true, SegmentSize: 1448}
	return p
}

const tcpPSH = 0x08

// ack is a segment from a port that acknowledges up to number and says no more.
func ack(port uint16, number uint32) tunnel.Packet {
	p := segment(port, 1, tcpACK, nil, 0)
	binary.BigEndian.PutUint32(p.Data[28:], number)
	return p
}

// ping is an echo request of 84 octets.
func ping() tunnel.Packet {
	d := make([]byte, 84)
	copy(d, []byte{0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 2, 15, 203, 0, 113, 100, 8})
	return tunnel.Packet{Data: d}
}

// ecn6 is a UDP datagram of IPv6 of an ECN capable transport.
func ecn6(payload int) tunnel.Packet {
	d := make([]byte, 48+payload)
	copy(d, []byte{0x60, 0x20, 0, 0, 0, 0, 17, 64})
	binary.BigEndian.PutUint16(d[4:], uint16(8+payload))
	binary.BigEndian.PutUint16(d[44:], uint16(8+payload))
	return tunnel.Packet{Data: d}
}

func port(p tunnel.Packet) uint16 { return binary.BigEndian.Uint16(p.Data[20:]) }
func seq(p tunnel.Packet) uint32  { return binary.BigEndian.Uint32(p.Data[24:]) }

// sum is the sum of RFC 1071, folded.
func sum(b []byte) uint16 {
	s := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// transportSum is what the transport checksum of a segment of IPv4 sums up to: 0xffff if
// it is complete.
func transportSum(d []byte) uint16 {
	pseudo := append(append([]byte(nil), d[12:20]...), 0, d[9], byte((len(d)-20)>>8), byte(len(d)-20))
	return sum(append(pseudo, d[20:]...))
}

// checked fails unless p is what it says, and returns its headers.
func checked(t testing.TB, p tunnel.Packet) tunnel.Header {
	t.Helper()
	h, err := p.Check()
	if err != nil {
		t.Fatalf("%x %+v: %v", p.Data[:min(len(p.Data), 60)], p.GSO, err)
	}
	if h.Version == 4 {
		if c := sum(p.Data[:20]); c != 0xffff {
			t.Fatalf("the header checksum sums up to %04x", c)
		}
	}
	return h
}
