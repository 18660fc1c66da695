package native

import (
	"encoding/binary"

	"github.com/bodkin-net/bodkin/tunnel"
)

const (
	headerLen  = 4 // type and length
	factsLen   = 4 // kind, flags, segment size, before the packet of a SUPER
	controlMax = 4096
	textMax    = 256 // of CLOSE and ERROR, with the code
)

// flagChecksum is bit 0 of a SUPER's flags (spec.md, section 5).
const flagChecksum = 0x01

// most is the largest payload of a frame of the given type, or -1 when no such
// frame may come (spec.md, section 2).
func most(frame byte) int {
	switch frame {
	case frameHello:
		return controlMax
	case framePacket:
		return tunnel.MaxPacket
	case frameSuper:
		return factsLen + tunnel.MaxPacket
	case frameEchoRequest, frameEchoReply:
		return 8
	case frameClose, frameError:
		return textMax
	}
	if frame >= frameIgnorable {
		return controlMax
	}
	return -1
}

// appendHeader appends a frame's header to dst.
//
//	  1      3
//	+------+--------+
//	| type | length |  spec.md, section 2
//	+------+--------+
func appendHeader(dst []byte, frame byte, length int) []byte {
	return append(dst, frame, byte(length>>16), byte(length>>8), byte(length))
}

// appendPacketHeader appends what precedes p's Data on the stream: a PACKET's
// header, or a SUPER's with the offload facts.
func appendPacketHeader(dst []byte, p tunnel.Packet) []byte {
	if p.GSO == (tunnel.Offload{}) {
		return appendHeader(dst, framePacket, len(p.Data))
	}
	dst = appendHeader(dst, frameSuper, factsLen+len(p.Data))
	flags := byte(0)
	if p.GSO.NeedsChecksum {
		flags = flagChecksum
	}
	dst = append(dst, byte(p.GSO.Type), flags)
	return binary.BigEndian.AppendUint16(dst, p.GSO.SegmentSize)
}

// cutFrame takes the first frame off b. With less than a whole frame there it
// returns need, the octets that b must hold at least. The payload lies in b.
func cutFrame(b []byte) (frame byte, payload, rest []byte, need int, err error) {
	if len(b) < headerLen {
		return 0, nil, b, headerLen, nil
	}
	frame = b[0]
	length := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	switch limit := most(frame); {
	case limit < 0:
		return 0, nil, b, 0, protocolError(ErrorFrame, "frame of unknown type 0x%02x", frame)
	case length > limit:
		return 0, nil, b, 0, protocolError(ErrorFrame, "frame of type 0x%02x with %d octets, more than %d", frame, length, limit)
	}
	if len(b) < headerLen+length {
		return 0, nil, b, headerLen + length, nil
	}
	return frame, b[headerLen : headerLen+length : headerLen+length], b[headerLen+length:], 0, nil
}

// parsePacket makes a packet of a PACKET's or SUPER's payload, in place, and
// holds it against spec.md, sections 4 and 5. ok is false for one to be dropped.
func parsePacket(frame byte, payload []byte, caps tunnel.Caps) (p tunnel.Packet, ok bool) {
	if frame == framePacket {
		p.Data = payload
		if len(payload) > caps.MTU {
			return p, false
		}
		_, err := p.Check()
		return p, err == nil
	}
	if len(payload) < factsLen {
		return p, false
	}
	flags := payload[1]
	p.Data = payload[factsLen:]
	p.GSO = tunnel.Offload{
		Type:          tunnel.GSOType(payload[0]),
		NeedsChecksum: flags == flagChecksum,
		SegmentSize:   binary.BigEndian.Uint16(payload[2:]),
	}
	if flags != flagChecksum || !offered(p.GSO.Type, caps.Offloads) {
		return p, false
	}
	h, err := p.Check()
	if err != nil {
		return p, false
	}
	if p.GSO.Type == tunnel.GSONone {
		return p, len(p.Data) <= caps.MTU
	}
	return p, h.Payload+int(p.GSO.SegmentSize) <= caps.MTU || len(p.Data) <= caps.MTU
}

// offered reports whether packets of a kind may be sent to a side that offers
// the given offloads (spec.md, section 5).
func offered(kind tunnel.GSOType, offloads tunnel.Offloads) bool {
	switch kind {
	case tunnel.GSONone:
		return offloads.Has(tunnel.OffloadChecksum)
	case tunnel.GSOTCP4:
		return offloads.Has(tunnel.OffloadTSO4)
	case tunnel.GSOTCP6:
		return offloads.Has(tunnel.OffloadTSO6)
	case tunnel.GSOUDP:
		return offloads.Has(tunnel.OffloadUSO)
	}
	return false
}
