package hdlc

import "bytes"

// A Set holds the octets that are escaped when sending. The zero Set holds Flag
// and Escape, which every Set holds.
type Set struct {
	stuffed *stuffing // nil if Flag and Escape are all
}

// A stuffing says how each octet goes out: the low 16 bits are one octet or two,
// the first one low, and the bits above are how many there are.
type stuffing [256]uint32

// bare is the stuffing of the zero Set.
var bare = stuff([4]uint64{1: 1<<(Flag-64) | 1<<(Escape-64)})

func stuff(octets [4]uint64) *stuffing {
	s := new(stuffing)
	for c := range uint32(256) {
		if octets[c/64]>>(c%64)&1 != 0 {
			s[c] = 2<<16 | (c^flip)<<8 | Escape
		} else {
			s[c] = 1<<16 | c
		}
	}
	return s
}

// NewSet returns the Set of the octets in a, and of those in more, of which bit
// n%64 of word n/64 stands for octet n.
//
// Octets 0x20 to 0x3f and 0x5e are left out of more, as pppd's escape option does
// not take them: flipped, they would be control characters that a may hold, and
// the flag. If the path eats an octet and its flipped form as well, no escaping
// helps.
func NewSet(a ACCM, more [4]uint64) Set {
	more[0] = more[0]&0xffffffff | uint64(a)
	more[1] &^= 1<<(0x5e-64) | 1<<(Flag-64) | 1<<(Escape-64)
	if more == [4]uint64{} {
		return Set{}
	}
	more[1] |= 1<<(Flag-64) | 1<<(Escape-64)
	return Set{stuff(more)}
}

// append appends p to dst, escaped. The caller has seen to it that dst has room
// for 2*len(p)+1 octets more. A few octets are not worth a search.
func (s Set) append(dst, p []byte) []byte {
	switch {
	case s.stuffed != nil:
		return appendDense(dst, p, s.stuffed)
	case len(p) < 16:
		return appendDense(dst, p, bare)
	}
	return appendSparse(dst, p)
}

// appendDense is append by table. It does the same work for each octet, whether
// that is escaped or not: with many that are, nothing else is as quick.
func appendDense(dst, p []byte, stuffed *stuffing) []byte {
	n := len(dst)
	dst = dst[:n+2*len(p)+1]
	for _, c := range p {
		v := stuffed[c]
		dst[n+1] = byte(v >> 8) // of one octet, to be written over
		dst[n] = byte(v)
		n += int(v >> 16)
	}
	return dst[:n]
}

// appendSparse is append for the zero Set. It looks for the next flag and the
// next escape with the processor's widest registers, and copies what lies before;
// unless they turn out to be crowded.
func appendSparse(dst, p []byte) []byte {
	flag, escape := index(p, 0, Flag), index(p, 0, Escape)
	for from, found := 0, 0; ; found++ {
		if crowded(found, from) {
			return appendDense(dst, p[from:], bare)
		}
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

// crowded reports whether so many octets were found among so many that to search
// for the next ones costs more than to look at all that are left. Without it, a
// packet full of flags would take ten times as long as any other.
func crowded(found, among int) bool { return 16*found > among+64 }

// index returns where c is in p, at from or after, or len(p).
func index(p []byte, from int, c byte) int {
	if i := bytes.IndexByte(p[from:], c); i >= 0 {
		return from + i
	}
	return len(p)
}
