package hdlc

import "bytes"

// A Set holds the octets that are escaped when sending. The zero Set holds Flag
// and Escape, which every Set holds.
type Set struct {
	// stuffed is nil for the zero Set. Element c says how octet c goes out: the
	// low 16 bits are one or two octets, the first one low, and the next are how
	// many there are.
	stuffed *[256]uint32
}

// bare is the table of the zero Set.
var bare = NewSet(0, [4]uint64{}).stuffed

// NewSet returns the Set of the octets in a, and of those in more, of which bit
// n%64 of word n/64 stands for octet n.
//
// Octets 0x20 to 0x3f and 0x5e are left out of more, as pppd's escape option does
// not take them: flipped, they would be control characters that a may hold, and
// the flag.
func NewSet(a ACCM, more [4]uint64) Set {
	more[0] = more[0]&0xffffffff | uint64(a)
	more[1] &^= 1 << (0x5e - 64)
	more[1] |= 1<<(Flag-64) | 1<<(Escape-64)

	var s Set
	s.stuffed = new([256]uint32)
	for c := range uint32(256) {
		if more[c/64]>>(c%64)&1 != 0 {
			s.stuffed[c] = 2<<16 | (c^flip)<<8 | Escape
		} else {
			s.stuffed[c] = 1<<16 | c
		}
	}
	return s
}

// append appends p to dst, escaped. The caller has seen to it that dst has room
// for 2*len(p)+1 octets more.
func (s Set) append(dst, p []byte) []byte {
	if s.stuffed != nil {
		return appendDense(dst, p, s.stuffed)
	}
	return appendSparse(dst, p)
}

// appendDense is append by table. It does the same work for each octet, whether
// that is escaped or not: with many that are, nothing else is as quick.
func appendDense(dst, p []byte, stuffed *[256]uint32) []byte {
	n := len(dst)
	dst = dst[:n+2*len(p)+1]
	for _, c := range p {
		v := stuffed[c]
		dst[n+1] = byte(v >> 8)
		dst[n] = byte(v)
		n += int(v >> 16)
	}
	return dst[:n]
}

// appendSparse is append for the zero Set. It looks for the next flag and the
// next escape with the processor's widest registers, and copies what lies before.
func appendSparse(dst, p []byte) []byte {
	flag, escape := index(p, 0, Flag), index(p, 0, Escape)
	for from := 0; ; {
		next := min(flag, escape)
		dst = append(dst, p[from:next]...)
		if next == len(p) {
			return dst
		}
		dst = append(dst, Escape, p[next]^flip)
		from = next + 1
		if next == flag {
			flag = index(p, from, Flag)
		} else {
			escape = index(p, from, Escape)
		}
	}
}

// index returns where c is in p, at from or after, or len(p).
func index(p []byte, from int, c byte) int {
	if i := bytes.IndexByte(p[from:], c); i >= 0 {
		return from + i
	}
	return len(p)
}
