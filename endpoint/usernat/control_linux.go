package usernat

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// controls are what the control messages beside a received datagram say.
type controls struct {
	segment int   // octets of each datagram in the data but the last; 0: it is one (UDP_GRO)
	ttl     uint8 // of the packet that came; 0: not told
	failed  bool  // failure holds
	failure failure
}

// A failure is a struct sock_extended_err (ip(7), IP_RECVERR).
type failure struct {
	errno     uint32
	origin    uint8 // unix.SO_EE_ORIGIN_LOCAL, ..._ICMP, ..._ICMP6
	typ, code uint8
	info      uint32     // an MTU
	offender  netip.Addr // who said so; may be invalid
}

// parseControl reads the control messages in b. What it does not know, or what
// is too short, it passes over.
func parseControl(b []byte) (c controls) {
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return c
		}
		switch {
		case len(data) < 4:
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO:
			c.segment = int(binary.NativeEndian.Uint32(data) & 0xffff)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT:
			c.ttl = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR:
			c.failure, c.failed = parseFailure(data)
		}
		b = rest
	}
	return c
}

// parseFailure reads a struct sock_extended_err and the socket address after it:
//
//	  4      1       1     1     1    4     4     16 or 28
//	+-------+--------+------+------+---+------+------+----------+
//	| errno | origin | type | code | 0 | info | data | offender |
//	+-------+--------+------+------+---+------+------+----------+
func parseFailure(b []byte) (f failure, ok bool) {
	if len(b) < 16 {
		return f, false
	}
	f.errno, f.info = binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[8:])
	f.origin, f.typ, f.code = b[4], b[5], b[6]
	if a := b[16:]; len(a) >= 8 {
		switch family := binary.NativeEndian.Uint16(a); {
		case family == unix.AF_INET:
			f.offender = netip.AddrFrom4([4]byte(a[4:]))
		case family == unix.AF_INET6 && len(a) >= 24:
			f.offender = netip.AddrFrom16([16]byte(a[8:]))
		}
	}
	return f, true
}

// message turns a failure into the ICMP message it was or stands for, for a flow
// of the given IP version. Those that are none of the sender's affair are not ok.
func (f *failure) message(v6 bool) (tc typeCode, rest uint32, ok bool) {
	tc = typeCode{f.typ, f.code}
	switch {
	case f.origin == unix.SO_EE_ORIGIN_ICMP && !v6:
		switch {
		case tc == typeCode{unreachable4, tooBig4}:
			return tc, f.info & 0xffff, true
		case tc.typ == unreachable4, tc.typ == exceeded4:
			return tc, 0, true
		}
	case f.origin == unix.SO_EE_ORIGIN_ICMP6 && v6:
		switch tc.typ {
		case tooBig6:
			return tc, f.info, true
		case unreachable6, exceeded6:
			return tc, 0, true
		}
	case f.origin == unix.SO_EE_ORIGIN_LOCAL:
		switch unix.Errno(f.errno) {
		case unix.EMSGSIZE:
			if v6 {
				return typeCode{tooBig6, 0}, f.info, true
			}
			return typeCode{unreachable4, tooBig4}, f.info & 0xffff, true
		case unix.EHOSTUNREACH:
			if v6 {
				return reasonCodes[noHost].v6, 0, true
			}
			return reasonCodes[noHost].v4, 0, true
		}
	}
	return tc, 0, false
}

// maxQuote is how much of a lost datagram's payload goes back in an ICMP error:
// what fits one of RFC 1812's 576 octets with both headers.
const maxQuote = 500

// passError tells the sender of f what the socket's error queue said about a
// packet of f, which r holds: of a UDP datagram the payload, of a ping the ICMP
// message. The packet that is quoted is the one from inside, made again.
func (n *NAT) passError(f *flow, r *receiver) {
	if !r.facts.failed {
		return
	}
	src, dst := f.key.src.Addr(), f.key.dst.Addr()
	tc, rest, ok := r.facts.failure.message(src.Is6())
	if !ok {
		return
	}
	lost := r.data[:min(r.n, maxQuote)]
	var quote [headerLen6 + headerLenUDP + maxQuote]byte
	ip := headerLenOf(src)
	length := len(lost)
	if f.key.proto == protoUDP {
		length += headerLenUDP
		putUDP(quote[ip:], f.key.src.Port(), f.key.dst.Port(), length, 0)
		copy(quote[ip+headerLenUDP:], lost)
	} else {
		if len(lost) < headerLenICMP || f.raw && binary.BigEndian.Uint16(lost[4:]) != f.id {
			return // too little to tell whose it was, or another process's
		}
		m := quote[ip : ip+length]
		copy(m, lost)
		binary.BigEndian.PutUint16(m[4:], f.key.src.Port())
		m[2], m[3] = 0, 0
		putSumICMP(m, src, dst)
	}
	putHeader(quote[:], src, dst, f.key.proto, 1, length, 0)
	from := r.facts.failure.offender
	if from == n.outer(dst) || !from.IsValid() || from.Is6() != src.Is6() || !validSource(from) {
		from = dst
	}
	if r.facts.failure.origin == unix.SO_EE_ORIGIN_LOCAL {
		from = n.self(dst)
	}
	h := header{src: src, dst: dst, proto: f.key.proto, offset: ip, end: ip + length}
	n.sendErrorCode(from, &h, quote[:ip+length], tc, rest)
}
