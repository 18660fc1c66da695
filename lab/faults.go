package lab

import "time"

// Faults are what a Chaos does to the octets of one direction, in the order of the
// fields. The zero value harms nothing. "Pass" is what an octet does that comes out,
// whatever became of it; those of Prefix do not count.
type Faults struct {
	Prefix    []byte // comes first, as soon as the connection is there, and unharmed
	Seven     bool   // bit 7 is cleared
	Eat       []byte // octets of these values vanish
	CRNL      bool   // CR becomes LF, and LF becomes CR LF
	FlipEvery int64  // the n-th, 2n-th ... octet that passes has one bit changed; 0 is none

	CutAfter   int64 // when so many have passed, both directions end; 0 is never
	StallAfter int64 // when so many have passed, no more do, and nothing ends; 0 is never

	OctetPerWrite bool          // each octet is a write of its own
	Rate          int           // octets/s, one after the other as on a serial line; 0 is as fast as it goes
	Delay         time.Duration // from an octet's coming to its going on
}

// A fate is how it goes on with a direction.
type fate int

const (
	flows  fate = iota
	stalls      // nothing passes any more
	ends        // the connection ends
)

// faulty is a direction with its faults. It sees to octets; times are the relay's.
type faulty struct {
	Faults
	eaten  [256]bool
	passed int64
}

func newFaulty(f Faults) *faulty {
	d := &faulty{Faults: f}
	for _, b := range f.Eat {
		d.eaten[b] = true
	}
	return d
}

// pass appends to dst what becomes of src, and says how it goes on after that.
func (d *faulty) pass(dst, src []byte) ([]byte, fate) {
	for _, b := range src {
		if d.Seven {
			b &= 0x7f
		}
		if d.eaten[b] {
			continue
		}
		out := [2]byte{b}
		octets := out[:1]
		if d.CRNL {
			switch b {
			case '\r':
				out[0] = '\n'
			case '\n':
				out, octets = [2]byte{'\r', '\n'}, out[:2]
			}
		}
		for _, b := range octets {
			d.passed++
			if d.FlipEvery > 0 && d.passed%d.FlipEvery == 0 {
				b ^= 1 << (d.passed / d.FlipEvery % 8) // each bit has its turn
			}
			dst = append(dst, b)
			switch d.passed {
			case d.CutAfter:
				return dst, ends
			case d.StallAfter:
				return dst, stalls
			}
		}
	}
	return dst, flows
}
