package tunnel

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the octets of b, as big-endian 16-bit words, to the ones' complement
// sum initial (RFC 1071). An odd last octet counts as the high one of a word.
func sum(b []byte, initial uint64) uint64 {
	acc, carry := initial, uint64(0)
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var last [8]byte // what is left, padded with zeros
	copy(last[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(last[:]), carry)
	acc, carry = bits.Add64(acc, 0, carry)
	return acc + carry
}

// fold brings a sum down to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// pseudoHeader is the sum of the pseudo-header for a transport segment of
// length octets (RFC 9293, section 3.1; RFC 8200, section 8.1).
func pseudoHeader(data []byte, h Header, length int) uint64 {
	addrs := data[12:20]
	if h.Version == 6 {
		addrs = data[8:40]
	}
	return sum(addrs, uint64(h.Protocol)+uint64(length))
}

// setChecksum computes the transport checksum of the ordinary packet data in
// place. A UDP checksum of zero goes out as ffff (RFC 768).
func setChecksum(data []byte, h Header) {
	at := h.Transport + h.ChecksumOffset()
	data[at], data[at+1] = 0, 0
	c := ^fold(sum(data[h.Transport:], pseudoHeader(data, h, len(data)-h.Transport)))
	if c == 0 && h.Protocol == ProtoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(data[at:], c)
}

// setIPv4Checksum computes the header checksum of an IPv4 packet in place
// (RFC 791, section 3.1).
func setIPv4Checksum(data []byte, ihl int) {
	data[10], data[11] = 0, 0
	binary.BigEndian.PutUint16(data[10:], ^fold(sum(data[:ihl], 0)))
}

// CompleteChecksum finishes, in place, a checksum that covers data from start
// on and whose field, holding the sum to begin with, lies offset octets behind
// start. It reports false when there is no such place.
func CompleteChecksum(data []byte, start, offset int) bool {
	if start < 0 || offset < 0 || start+offset+2 > len(data) {
		return false
	}
	c := ^fold(sum(data[start:], 0))
	if c == 0 {
		c = 0xffff // the same sum, and no UDP checksum's absence (RFC 768)
	}
	binary.BigEndian.PutUint16(data[start+offset:], c)
	return true
}
