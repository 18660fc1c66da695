package usernat

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// A reason is why a packet could not be delivered, whatever the IP version.
type reason uint8

const (
	prohibited reason = iota
	noNetwork
	noHost
	noPort
	noProtocol
	reasons
)

// A typeCode is the type and code of an ICMP message.
type typeCode struct{ typ, code uint8 }

// reasonCodes are the messages that say a reason, as RFC 792 and RFC 1812,
// section 5.2.7.1 have them for IPv4, and RFC 4443, sections 3.1 and 3.4 for
// IPv6. IPv6 has no code for an unknown protocol of the destination: its
// parameter problem, code 1, comes nearest.
var reasonCodes = [reasons]struct{ v4, v6 typeCode }{
	prohibited: {typeCode{3, 13}, typeCode{1, 1}},
	noNetwork:  {typeCode{3, 0}, typeCode{1, 0}},
	noHost:     {typeCode{3, 1}, typeCode{1, 3}},
	noPort:     {typeCode{3, 3}, typeCode{1, 4}},
	noProtocol: {typeCode{3, 2}, typeCode{4, 1}},
}

// ICMP types of our own use.
const (
	echoReply4, echoRequest4 = 0, 8         // RFC 792
	echoReply6, echoRequest6 = 128 + 1, 128 // RFC 4443, section 4
	unreachable4, tooBig4    = 3, 4         // RFC 792; tooBig4 is its code (RFC 1191, section 4)
	exceeded4, problem4      = 11, 12       // RFC 792
	unreachable6, tooBig6    = 1, 2         // RFC 4443, section 3
	exceeded6, problem6      = 3, 4         // RFC 4443, section 3
	ttlOwn                   = 64           // of packets that begin here
)

// Longest ICMP error in octets, IP header included: RFC 1812, section 4.3.2.3
// for IPv4, RFC 4443, section 2.4(c) for IPv6.
const (
	maxError4 = 576
	maxError6 = 1280
)

// errorLen returns the length in octets of putError's packet about quoted.
func errorLen(quoted []byte, v6 bool) int {
	if v6 {
		return min(headerLen6+headerLenICMP+len(quoted), maxError6)
	}
	return min(headerLen4+headerLenICMP+len(quoted), maxError4)
}

// putError writes into b, which is errorLen octets long or less, the ICMP error tc from
// src to dst about the packet quoted, which begins with its IP header. rest is
// the four octets after the checksum: an MTU or a pointer, or 0.
//
//	  20 or 40     1      1       2        4
//	+-----------+------+------+-------+--------+----------- - -
//	| IP header | type | code |  sum  |  rest  | quoted packet
//	+-----------+------+------+-------+--------+----------- - -
func putError(b []byte, src, dst netip.Addr, tc typeCode, rest uint32, quoted []byte) {
	proto := uint8(protoICMP)
	if src.Is6() {
		proto = protoICMPv6
	}
	n := headerLenOf(src)
	putHeader(b, src, dst, proto, ttlOwn, len(b)-n, 0)
	m := b[n:]
	m[0], m[1], m[2], m[3] = tc.typ, tc.code, 0, 0
	binary.BigEndian.PutUint32(m[4:], rest)
	copy(m[headerLenICMP:], quoted)
	putSumICMP(m, src, dst)
}

// putSumICMP computes the checksum of the ICMP message m (RFC 792; RFC 4443,
// section 2.3), whose checksum field is zero.
func putSumICMP(m []byte, src, dst netip.Addr) {
	var sum uint16
	if src.Is6() {
		sum = pseudoSum(src, dst, protoICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, sum))
}

// putSumSplit is putSumICMP for a message in two pieces, head an even number of
// octets.
func putSumSplit(head, data []byte, src, dst netip.Addr) {
	var sum uint16
	if src.Is6() {
		sum = pseudoSum(src, dst, protoICMPv6, len(head)+len(data))
	}
	sum = checksum.Combine(checksum.Checksum(head, sum), checksum.Checksum(data, 0))
	binary.BigEndian.PutUint16(head[2:], ^sum)
}
