package socks

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	gheader "gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/bodkin-net/bodkin/endpoint/netstack"
	"github.com/bodkin-net/bodkin/tunnel"
)

// WritePackets implements tunnel.Port: what comes through the tunnel is given to the
// stack if it is TCP or UDP for us, or an error about something of ours.
func (p *Proxy) WritePackets(batch []tunnel.Packet) error {
	if p.ctx.Err() != nil {
		return net.ErrClosed
	}
	for i := range batch {
		if !p.take(&batch[i]) {
			p.count.packets.Add(1)
		}
	}
	return nil
}

// take brings one packet to where it belongs, or reports false.
func (p *Proxy) take(packet *tunnel.Packet) bool {
	h, err := packet.Check()
	if err != nil {
		return false
	}
	b := packet.Data
	src, dst := ends(b)
	if dst != p.local4 && dst != p.local6 {
		return false
	}
	v6 := h.Version == 6
	switch {
	case h.Protocol == tunnel.ProtoUDP && h.Fragment: // the stack joins them; nothing else is ever so large
	case h.Protocol == tunnel.ProtoUDP, h.Protocol == tunnel.ProtoTCP && !h.Fragment:
		if plain := gheader.IPv4MinimumSize; v6 && h.Transport != gheader.IPv6MinimumSize || !v6 && h.Transport != plain {
			return false // options and extension headers: no host has sent them for decades
		}
		if packet.GSO == (tunnel.Offload{}) && !sumHolds(b[h.Transport:], h.Protocol, src, dst) {
			return false
		}
	case h.Protocol == tunnel.ProtoICMP && !v6 || h.Protocol == tunnel.ProtoICMPv6 && v6:
		if h.Fragment || !isError(b[h.Transport:], v6) {
			return false
		}
		if p.failedDial(b[h.Transport:], v6) {
			return true
		}
	default:
		return false
	}
	p.stack.Inject(v6, b, nil)
	return true
}

// ends returns the addresses of an IP packet that has its whole header.
func ends(b []byte) (src, dst netip.Addr) {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	}
	return netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
}

// sumHolds reports whether the checksum of a whole TCP or UDP segment holds (RFC 9293,
// section 3.1; RFC 768).
func sumHolds(segment []byte, proto int, src, dst netip.Addr) bool {
	if proto == tunnel.ProtoUDP && src.Is4() && segment[6] == 0 && segment[7] == 0 {
		return true // none was computed
	}
	sum := gheader.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(proto), netstack.AddressOf(src), netstack.AddressOf(dst), uint16(len(segment)))
	return checksum.Checksum(segment, sum) == 0xffff
}

// Types of ICMP errors: RFC 792; RFC 4443, section 3.
const (
	unreachable4, exceeded4 = 3, 11
	unreachable6, tooBig6   = 1, 2
	exceeded6               = 3
	headerLenICMP           = 8
	portsLen                = 4 // of a quoted transport header: the ports
)

// isError reports whether the ICMP message m is an error that holds together. All
// else, a ping among it, nobody here waits for.
func isError(m []byte, v6 bool) bool {
	if len(m) < headerLenICMP {
		return false
	}
	if v6 {
		return m[0] == unreachable6 || m[0] == tooBig6 || m[0] == exceeded6
	}
	return (m[0] == unreachable4 || m[0] == exceeded4) && checksum.Checksum(m, 0) == 0xffff
}

// failedDial ends the dial whose SYN the ICMP error m quotes, with what it says. (The
// stack below does not tell a prohibition from a host that is away.) It reports
// whether m is about TCP and no hint of the path's MTU: those are the stack's.
func (p *Proxy) failedDial(m []byte, v6 bool) bool {
	key, ok := quoted(m[headerLenICMP:], v6)
	errno := errnoOf(m[0], m[1], v6)
	if !ok || errno == 0 {
		return false
	}
	p.dials.fail(key, errno)
	return true
}

// quoted reads the beginning of a packet of TCP that an ICMP error quotes.
func quoted(b []byte, v6 bool) (key dialKey, ok bool) {
	n := gheader.IPv6MinimumSize
	switch {
	case v6:
		if len(b) < n+portsLen || b[0]>>4 != 6 || b[6] != tunnel.ProtoTCP {
			return key, false
		}
	default:
		if len(b) < gheader.IPv4MinimumSize || b[0]>>4 != 4 || b[9] != tunnel.ProtoTCP {
			return key, false
		}
		if n = int(b[0]&0xf) * 4; n < gheader.IPv4MinimumSize || len(b) < n+portsLen {
			return key, false
		}
	}
	src, dst := ends(b)
	key.local = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[n:]))
	key.remote = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[n+2:]))
	return key, true
}

// errnoOf says what an ICMP error means for a connection that is being made, as Linux
// does (icmp_err_convert in net/ipv4/icmp.c, and net/ipv6/icmp.c), but that a
// prohibition is one for both. It is 0 for a path's MTU.
func errnoOf(typ, code uint8, v6 bool) syscall.Errno {
	if v6 {
		switch {
		case typ == tooBig6:
			return 0
		case typ == unreachable6 && code == 0:
			return syscall.ENETUNREACH
		case typ == unreachable6 && (code == 1 || code == 5 || code == 6): // RFC 4443, section 3.1
			return syscall.EACCES
		case typ == unreachable6 && code == 4:
			return syscall.ECONNREFUSED
		}
		return syscall.EHOSTUNREACH
	}
	if typ == unreachable4 {
		switch code {
		case 4:
			return 0
		case 0, 6, 11:
			return syscall.ENETUNREACH
		case 2, 3:
			return syscall.ECONNREFUSED
		case 9, 10, 13: // RFC 1812, section 5.2.7.1
			return syscall.EACCES
		}
	}
	return syscall.EHOSTUNREACH
}
