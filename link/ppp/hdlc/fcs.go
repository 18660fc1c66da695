package hdlc

import (
	"encoding/binary"
	"hash/crc32"
)

// An FCS is a kind of Frame Check Sequence.
type FCS uint8

// The kinds. FCS32 must have been agreed on (RFC 1570, section 2.1).
const (
	FCS16 FCS = iota // the default (RFC 1662, appendix C.2)
	FCS32            // RFC 1662, appendix C.3
)

const (
	initial16 = 0xffff
	initial32 = 0xffffffff
	good16    = 0xf0b8     // of a frame with its FCS, before complementing
	good32    = 0x2144df1c // the same, complemented, as hash/crc32 has it
)

// polynomial16 is x^16 + x^12 + x^5 + 1 with the low bit first.
const polynomial16 = 0x8408

// slices16 holds, for slices16[n][b], what octet b does to the FCS when n octets
// come after it: sixteen look-ups that do not wait for each other, instead of
// sixteen that do. 8 KiB, a fraction of the first cache.
var slices16 = func() (t [16][256]uint16) {
	for b := range 256 {
		v := uint16(b)
		for range 8 {
			v = v>>1 ^ polynomial16&-(v&1)
		}
		t[0][b] = v
	}
	for n := 1; n < len(t); n++ {
		for b, v := range t[n-1] {
			t[n][b] = v>>8 ^ t[0][byte(v)]
		}
	}
	return t
}()

// update16 returns the FCS-16 fcs, not complemented, continued over p.
func update16(fcs uint16, p []byte) uint16 {
	t := &slices16
	for len(p) >= 16 {
		a := binary.LittleEndian.Uint64(p) ^ uint64(fcs)
		b := binary.LittleEndian.Uint64(p[8:])
		fcs = t[0][b>>56] ^ t[1][byte(b>>48)] ^ t[2][byte(b>>40)] ^ t[3][byte(b>>32)] ^
			t[4][byte(b>>24)] ^ t[5][byte(b>>16)] ^ t[6][byte(b>>8)] ^ t[7][byte(b)] ^
			t[8][a>>56] ^ t[9][byte(a>>48)] ^ t[10][byte(a>>40)] ^ t[11][byte(a>>32)] ^
			t[12][byte(a>>24)] ^ t[13][byte(a>>16)] ^ t[14][byte(a>>8)] ^ t[15][byte(a)]
		p = p[16:]
	}
	for _, b := range p {
		fcs = fcs>>8 ^ t[0][byte(fcs)^b]
	}
	return fcs
}

// appendFCS appends the FCS of head and data, one after the other, low octet
// first (RFC 1662, section 3.1).
func (f FCS) appendFCS(dst, head, data []byte) []byte {
	if f == FCS32 {
		// By hand over the head: what hash/crc32 sees cannot stay on the stack.
		sum := uint32(initial32)
		for _, b := range head {
			sum = sum>>8 ^ crc32.IEEETable[byte(sum)^b]
		}
		return binary.LittleEndian.AppendUint32(dst, crc32.Update(^sum, crc32.IEEETable, data))
	}
	return binary.LittleEndian.AppendUint16(dst, ^update16(update16(initial16, head), data))
}

// passes16 and passes32 report whether a frame that ends with its FCS is sound.
func passes16(frame []byte) bool { return update16(initial16, frame) == good16 }
func passes32(frame []byte) bool { return crc32.ChecksumIEEE(frame) == good32 }
