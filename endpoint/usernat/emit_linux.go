package usernat

import (
	"net/netip"

	"github.com/bodkin-net/bodkin/tunnel"
)

// emit sends the transport segment whose header is head and payload data
// inside, from src to dst, in fragments when it is longer than the MTU. The
// checksum of the segment is complete if it is fragmented; else gso says. If wait
// is false and the outlet full, it is dropped.
func (n *NAT) emit(src, dst netip.Addr, proto, ttl uint8, head, data []byte, gso tunnel.Offload, wait bool) {
	ip := headerLenOf(src)
	length := len(head) + len(data)
	if gso.Type != tunnel.GSONone || ip+length <= n.stack.MTU() {
		b, ok := n.stack.Out.Reserve(ip+length, wait)
		if !ok {
			n.count.droppedFull.Add(1)
			return
		}
		putHeader(b, src, dst, proto, ttl, length, uint16(n.ids.Add(1)))
		copy(b[ip+copy(b[ip:], head):], data)
		n.stack.Out.Commit(b, gso)
		return
	}
	n.emitFragments(src, dst, proto, ttl, head, data, wait)
}

// emitFragments is emit for what does not fit (RFC 791, section 3.2; RFC 8200,
// section 4.5).
func (n *NAT) emitFragments(src, dst netip.Addr, proto, ttl uint8, head, data []byte, wait bool) {
	whole := make([]byte, 0, len(head)+len(data))
	whole = append(append(whole, head...), data...)
	ip, extra := headerLenOf(src), 0
	if src.Is6() {
		extra = 8
	}
	most := (n.stack.MTU() - ip - extra) &^ 7
	id := n.ids.Add(1)
	for at := 0; at < len(whole); at += most {
		piece := whole[at:min(at+most, len(whole))]
		more := at+len(piece) < len(whole)
		b, ok := n.stack.Out.Reserve(ip+extra+len(piece), wait)
		if !ok {
			n.count.droppedFull.Add(1)
			return
		}
		if src.Is6() {
			putHeader(b, src, dst, protoFragment, ttl, extra+len(piece), 0)
			putFragment6(b[ip:], proto, at, more, id)
		} else {
			putHeader(b, src, dst, proto, ttl, len(piece), uint16(id))
			putFragment4(b, at, more)
		}
		copy(b[ip+extra:], piece)
		n.stack.Out.Commit(b, tunnel.Offload{})
	}
}
