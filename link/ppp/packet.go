package ppp

import "encoding/binary"

// PPP's protocols (IANA "PPP DLL Protocol Numbers").
const (
	protocolIPv4   = 0x0021
	protocolIPv6   = 0x0057
	protocolIPCP   = 0x8021
	protocolIPv6CP = 0x8057
	protocolCCP    = 0x80fd
	protocolLCP    = 0xc021
	protocolPAP    = 0xc023
	protocolCHAP   = 0xc223
)

// The codes that LCP and the network control protocols share (RFC 1661, section
// 5), and those that are LCP's alone, with RFC 1570, sections 1.1 and 1.2.
const (
	confReq = 1
	confAck = 2
	confNak = 3
	confRej = 4
	termReq = 5
	termAck = 6
	codeRej = 7

	protRej        = 8
	echoReq        = 9
	echoRep        = 10
	discReq        = 11
	identification = 12
	timeRemaining  = 13
)

// headerLen is what a packet has before its data: Code, Identifier and Length
// (RFC 1661, section 5).
const headerLen = 4

// A packet is one of a control protocol.
type packet struct {
	code, id byte
	data     []byte // what follows the header; lies in what was parsed
}

// parsePacket takes a packet apart. The Length field rules: octets beyond it are
// padding; a packet that is shorter than it says is no packet (RFC 1661, section
// 5).
//
//	   1       1         2      Length-4    octets
//	+------+------------+--------+--------+
//	| Code | Identifier | Length |  data  |
//	+------+------------+--------+--------+
func parsePacket(b []byte) (packet, bool) {
	if len(b) < headerLen {
		return packet{}, false
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if length < headerLen || length > len(b) {
		return packet{}, false
	}
	return packet{code: b[0], id: b[1], data: b[headerLen:length]}, true
}

// appendPacket appends p, whose data is at most 65,531 octets.
func appendPacket(dst []byte, p packet) []byte {
	dst = append(dst, p.code, p.id)
	dst = binary.BigEndian.AppendUint16(dst, uint16(headerLen+len(p.data)))
	return append(dst, p.data...)
}

// An option is one of a Configure packet (RFC 1661, section 6).
//
//	  1       1      Length-2    octets
//	+------+--------+--------+
//	| Type | Length | value  |
//	+------+--------+--------+
type option struct {
	kind  byte
	value []byte // at most 253 octets
}

// cutOption takes the first option off b. It reports false if b does not begin
// with one: its Length is less than 2 or beyond the end.
func cutOption(b []byte) (o option, rest []byte, ok bool) {
	if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
		return option{}, b, false
	}
	return option{b[0], b[2:b[1]]}, b[b[1]:], true
}

// parseOptions takes all options off b, which must hold nothing else.
func parseOptions(b []byte) ([]option, bool) {
	var all []option
	for len(b) > 0 {
		o, rest, ok := cutOption(b)
		if !ok {
			return nil, false
		}
		all, b = append(all, o), rest
	}
	return all, true
}

// appendOption appends an option.
func appendOption(dst []byte, kind byte, value ...byte) []byte {
	dst = append(dst, kind, byte(2+len(value)))
	return append(dst, value...)
}

func appendOption16(dst []byte, kind byte, value uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, kind, 4), value)
}

func appendOption32(dst []byte, kind byte, value uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, kind, 6), value)
}
