package usernat

import (
	"net/netip"

	"github.com/bodkin-net/bodkin/tunnel"
)

// sendError tells the sender of packet, whose header is h, that it was not
// delivered. An ICMP error is never answered, nor a fragment other than the
// first (RFC 1122, section 3.2.2; RFC 4443, section 2.4(e)).
func (n *NAT) sendError(h *header, packet []byte, r reason) {
	if h.src.Is6() {
		n.sendErrorCode(n.self(h.dst), h, packet, reasonCodes[r].v6, 0)
	} else {
		n.sendErrorCode(n.self(h.dst), h, packet, reasonCodes[r].v4, 0)
	}
}

// sendErrorCode is sendError for a given type, code and rest, from from.
func (n *NAT) sendErrorCode(from netip.Addr, h *header, packet []byte, tc typeCode, rest uint32) {
	if h.frag != 0 {
		return
	}
	if m := h.payload(packet); len(m) > 0 {
		if h.proto == protoICMP && m[0] != echoRequest4 || h.proto == protoICMPv6 && m[0] < echoRequest6 {
			return
		}
	}
	quoted := packet[:h.end]
	b, ok := n.out.reserve(min(errorLen(quoted, h.src.Is6()), int(n.mtu.Load())), false)
	if !ok {
		n.count.droppedFull.Add(1)
		return
	}
	putError(b, from, h.src, tc, rest, quoted)
	n.commit(b)
}

// self returns the address from which the NAT itself speaks to someone who
// wrote to dst: its first DNS or host address of that IP version, else dst.
func (n *NAT) self(dst netip.Addr) netip.Addr {
	if dst.Is4() && n.self4.IsValid() {
		return n.self4
	}
	if dst.Is6() && n.self6.IsValid() {
		return n.self6
	}
	return dst
}

// refuse tells the sender of packet that the policy prohibits it.
func (n *NAT) refuse(h *header, packet []byte) {
	n.count.policy.Add(1)
	n.sendError(h, packet, prohibited)
}

// commit queues a finished packet of ours.
func (n *NAT) commit(b []byte) { n.out.commit(b, tunnel.Offload{}) }
