package auth

import "encoding/binary"

// Codes of PAP (RFC 1334, section 2.2).
const (
	papRequest = 1
	papAck     = 2
	papNak     = 3
)

// Codes of CHAP (RFC 1994, section 4).
const (
	chapChallenge = 1
	chapResponse  = 2
	chapSuccess   = 3
	chapFailure   = 4
)

// headerLen is Code, Identifier and the two octets of Length.
const headerLen = 4

// packet is what PAP and CHAP have in common (RFC 1334, section 2.2; RFC 1994,
// section 4).
type packet struct {
	code, id byte
	data     []byte // borrowed
}

// parsePacket reads a packet. Octets beyond its Length are padding (RFC 1661,
// section 5); it reports false if the Length does not fit.
func parsePacket(b []byte) (packet, bool) {
	if len(b) < headerLen {
		return packet{}, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < headerLen || n > len(b) {
		return packet{}, false
	}
	return packet{b[0], b[1], b[headerLen:n]}, true
}

// encode returns the octets of p. Its data is at most a few hundred octets: all
// that we send is made of our own names and texts.
func (p packet) encode() []byte {
	b := make([]byte, 0, headerLen+len(p.data))
	b = append(b, p.code, p.id)
	b = binary.BigEndian.AppendUint16(b, uint16(headerLen+len(p.data)))
	return append(b, p.data...)
}

// parseValue splits data into the field that its first octet counts and the rest.
func parseValue(data []byte) (value, rest []byte, ok bool) {
	if len(data) == 0 || len(data)-1 < int(data[0]) {
		return nil, nil, false
	}
	n := 1 + int(data[0])
	return data[1:n], data[n:], true
}

// appendValue appends value, at most 255 octets of it, behind an octet that
// counts it.
func appendValue[T string | []byte](dst []byte, value T) []byte {
	return append(append(dst, byte(len(value))), value...)
}

// papMessage returns the message of a PAP Ack or Nak. Some peers leave its length
// out, or the message too (RFC 1334, section 2.2.2, wants both): what the length
// does not fit is message from its first octet.
func papMessage(data []byte) []byte {
	if message, _, ok := parseValue(data); ok {
		return message
	}
	return data
}

// parsePAPRequest returns the name and the password of an Authenticate-Request
// (RFC 1334, section 2.2.1).
func parsePAPRequest(data []byte) (name, password []byte, ok bool) {
	name, rest, ok := parseValue(data)
	if !ok {
		return nil, nil, false
	}
	password, _, ok = parseValue(rest)
	return name, password, ok
}
