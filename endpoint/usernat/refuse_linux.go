package usernat

import (
	"encoding/binary"
	"net/netip"
	"time"

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
	b, ok := n.stack.Out.Reserve(min(errorLen(quoted, h.src.Is6()), n.stack.MTU()), false)
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
	n.tell(RefusalPolicy, h, packet)
	n.sendError(h, packet, prohibited)
}

// malformed counts a packet that does not parse or whose checksum is wrong; h is
// what is known of it.
func (n *NAT) malformed(h *header) {
	n.count.malformed.Add(1)
	n.tell(RefusalMalformed, h, nil)
}

// full counts what found no place among the flows; packet, with header h, asked
// for one.
func (n *NAT) full(h *header, packet []byte) {
	n.count.limit.Add(1)
	n.tell(RefusalFlows, h, packet)
}

// tell tells Config.Refused of what the packet with header h asked for. Without
// the packet its ports are not told.
func (n *NAT) tell(kind RefusalKind, h *header, packet []byte) {
	if n.refused.to == nil {
		return
	}
	src, dst := ports(h, packet)
	n.refused.tell(Refusal{
		Kind: kind, Protocol: h.proto,
		Src: netip.AddrPortFrom(h.src, src), Dst: netip.AddrPortFrom(h.dst, dst),
	}, time.Now())
}

// overMemory counts a connection that is reset because connections hold too much.
func (n *NAT) overMemory(remote, local netip.AddrPort) {
	n.count.memory.Add(1)
	n.refused.tell(Refusal{Kind: RefusalMemory, Protocol: protoTCP, Src: remote, Dst: local}, time.Now())
}

// ports returns the ports of a packet of TCP or UDP with header h, else 0. It may be
// a fragment, or be cut short.
func ports(h *header, packet []byte) (src, dst uint16) {
	if h.proto != protoTCP && h.proto != protoUDP || h.frag != 0 || len(packet) < h.offset+4 {
		return 0, 0
	}
	return binary.BigEndian.Uint16(packet[h.offset:]), binary.BigEndian.Uint16(packet[h.offset+2:])
}

// commit queues a finished packet of ours.
func (n *NAT) commit(b []byte) { n.stack.Out.Commit(b, tunnel.Offload{}) }
