package line

import "encoding/base64"

// An armourer carries octets as characters of the alphabet, three as four, as
// base64url of RFC 4648, section 5, does. Where a Write ends, what is left of a
// group is ended by one endMark, not by padding to four: one octet is two characters and
// the mark, two are three and the mark.
type armourer struct {
	left [2]byte // octets of a group that is not full yet
	n    int     // how many
}

// encode encodes octets of src into dst as long as there is room for four, and
// returns how many it wrote and read.
func (a *armourer) encode(dst, src []byte) (written, read int) {
	if a.n > 0 && a.n+len(src) >= 3 && len(dst) >= 4 {
		group := [3]byte{a.left[0], a.left[1]}
		read = copy(group[a.n:], src)
		base64.RawURLEncoding.Encode(dst, group[:])
		written, a.n = 4, 0
	}
	if a.n == 0 {
		n := min((len(dst)-written)/4, (len(src)-read)/3)
		base64.RawURLEncoding.Encode(dst[written:], src[read:read+3*n])
		written, read = written+4*n, read+3*n
	}
	if len(src)-read < 3-a.n {
		a.n += copy(a.left[a.n:], src[read:])
		read = len(src)
	}
	return written, read
}

// end ends a group that is not full, in four octets of dst at most.
func (a *armourer) end(dst []byte) (written int) {
	if a.n == 0 {
		return 0
	}
	written = base64.RawURLEncoding.EncodedLen(a.n)
	base64.RawURLEncoding.Encode(dst, a.left[:a.n])
	dst[written] = endMark
	a.n = 0
	return written + 1
}

// A disarmourer is the way back. Bit 7 does not count, and controls and spaces are
// what the way put in.
type disarmourer struct {
	bits uint32 // of the group so far, n of them not yet written
	n    uint   // 0, 6, 4 or 2
}

const (
	armourEnd  = 0xfd
	armourSkip = 0xfe
	armourBad  = 0xff
)

// armourValues holds the six bits of each character, and for the others what they are.
var armourValues = func() (table [256]byte) {
	for v := range table {
		switch c := byte(v) & 0x7f; {
		case c == endMark:
			table[v] = armourEnd
		case c <= ' ' || c == 0x7f:
			table[v] = armourSkip
		default:
			table[v] = armourBad
		}
	}
	for i := range len(alphabet) {
		table[alphabet[i]] = byte(i)
		table[alphabet[i]|0x80] = byte(i)
	}
	return table
}()

// decode decodes octets of src into dst, and returns how many it wrote and read. If
// it reports damage, src[read] is the octet that cannot be.
func (d *disarmourer) decode(dst, src []byte) (written, read int, ok bool) {
	for read < len(src) && written < len(dst) {
		if d.n == 0 {
			w, r := wholeGroups(dst[written:], src[read:])
			written, read = written+w, read+r
			if read == len(src) || written == len(dst) {
				break
			}
		}
		switch v := armourValues[src[read]]; {
		case v < 64:
			d.bits, d.n = d.bits<<6|uint32(v), d.n+6
			if d.n >= 8 {
				d.n -= 8
				dst[written] = byte(d.bits >> d.n)
				written++
				d.bits &= 1<<d.n - 1
			}
		case v == armourEnd && (d.n == 4 || d.n == 2) && d.bits == 0:
			d.n = 0
		case v != armourSkip:
			return written, read, false
		}
		read++
	}
	return written, read, true
}

// wholeGroups decodes groups of four characters until there is anything else.
func wholeGroups(dst, src []byte) (written, read int) {
	t := &armourValues
	n := min(len(dst)/3, len(src)/4)
	for range n {
		s, d := src[read:read+4:read+4], dst[written:written+3:written+3]
		a, b, c, e := t[s[0]], t[s[1]], t[s[2]], t[s[3]]
		if a|b|c|e >= 64 {
			break
		}
		v := uint32(a)<<18 | uint32(b)<<12 | uint32(c)<<6 | uint32(e)
		d[0], d[1], d[2] = byte(v>>16), byte(v>>8), byte(v)
		written, read = written+3, read+4
	}
	return written, read
}

func (d *disarmourer) whole() bool { return d.n == 0 }
