package usernat

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// pings know which kind of socket carries pings, as far as the last one tells.
type pings struct{ last atomic.Uint32 }

func (p *pings) kind() Ping { return Ping(p.last.Load()) }

// probe finds out before the first ping.
func (p *pings) probe() {
	if fd, _, err := p.open(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)); err == nil {
		unix.Close(fd)
	}
}

// takeEcho sends the echo request in packet (RFC 792; RFC 4443, section 4.1).
func (n *NAT) takeEcho(h *header, packet []byte, now time.Time) {
	m := h.payload(packet)
	key := flowKey{
		src:   netip.AddrPortFrom(h.src, binary.BigEndian.Uint16(m[4:])),
		dst:   netip.AddrPortFrom(h.dst, 0),
		proto: h.proto,
	}
	if n.dns[h.dst] { // this is us
		n.emitEcho(key, binary.BigEndian.Uint16(m[6:]), m[headerLenICMP:], ttlOwn, false)
		return
	}
	f := n.sockets.get(key)
	if f == nil {
		if f = n.openFlow(key, h, packet, now, n.sockets.ping.open); f == nil {
			if n.sockets.ping.kind() == PingNone {
				n.count.noEcho.Add(1)
			}
			return
		}
		n.count.echo.Add(1)
	}
	// The packet's octets stay as they are, so the message is copied.
	n.echo = append(n.echo[:0], m...)
	m = n.echo
	m[1], m[2], m[3] = 0, 0, 0
	f.mu.Lock()
	var err error
	if f.fd >= 0 {
		if f.raw { // a ping socket writes its own identifier and checksum
			binary.BigEndian.PutUint16(m[4:], f.id)
			if h.src.Is4() {
				putSumICMP(m, h.src, h.dst)
			}
		}
		f.used = now
		f.set(h.ttl, h.df && h.end <= fragmentless)
		err = f.send(m, nil)
	}
	f.mu.Unlock()
	n.failedSend(err, h, packet)
}

// open opens a ping socket to dst, or a raw one where those are not permitted.
func (p *pings) open(dst netip.AddrPort) (fd int, raw bool, err error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if dst.Addr().Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	kind := PingSocket
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err == unix.EACCES || err == unix.EPERM || err == unix.EPROTONOSUPPORT {
		kind, raw = PingRaw, true
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	}
	if err == unix.EACCES || err == unix.EPERM {
		kind = PingNone
	}
	if err == nil || kind == PingNone {
		p.last.Store(uint32(kind))
	}
	if err != nil {
		return -1, false, err
	}
	if raw {
		filterEcho(fd, family)
	}
	if err = prepare(fd, dst); err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, raw, nil
}

// filterEcho lets only echo replies through to a raw socket (raw(7), RFC 3542,
// section 3.2). Without it the socket would be woken in vain, no more.
func filterEcho(fd, family int) {
	if family == unix.AF_INET {
		const icmpFilter = 1 // ICMP_FILTER, linux/icmp.h: a bit for each type kept out
		unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << echoReply4))
		return
	}
	var keepOut unix.ICMPv6Filter
	for i := range keepOut.Data {
		keepOut.Data[i] = ^uint32(0)
	}
	keepOut.Data[echoReply6>>5] &^= 1 << (echoReply6 & 31)
	unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &keepOut)
}

// answerEcho brings the echo reply that r received for f inside. It reports
// false when what came was none of f's.
func (n *NAT) answerEcho(f *flow, r *receiver) bool {
	m, ttl := r.data[:r.n], r.facts.ttl
	reply := uint8(echoReply6)
	if f.key.dst.Addr().Is4() {
		reply = echoReply4
		if f.raw { // with its IP header
			h, ok := parse4(m)
			if !ok {
				return false
			}
			m, ttl = h.payload(m), h.ttl
		}
	}
	if len(m) < headerLenICMP || m[0] != reply || f.raw && binary.BigEndian.Uint16(m[4:]) != f.id {
		return false
	}
	if ttl == 0 {
		ttl = ttlOwn
	}
	n.emitEcho(f.key, binary.BigEndian.Uint16(m[6:]), m[headerLenICMP:], ttl, true)
	return true
}

// emitEcho sends an echo reply inside, with the identifier that key has.
func (n *NAT) emitEcho(key flowKey, seq uint16, data []byte, ttl uint8, wait bool) {
	var head [headerLenICMP]byte
	src, dst := key.dst.Addr(), key.src.Addr()
	head[0] = echoReply4
	if src.Is6() {
		head[0] = echoReply6
	}
	binary.BigEndian.PutUint16(head[4:], key.src.Port())
	binary.BigEndian.PutUint16(head[6:], seq)
	putSumSplit(head[:], data, src, dst)
	n.emit(src, dst, key.proto, ttl, head[:], data, tunnel.Offload{}, wait)
}
