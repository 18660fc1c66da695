package session

import "sync"

const (
	// chunkSize is what the replay buffer grows and shrinks by, in octets: so many cost
	// little to an idle server, and few enough buffers go to one system call.
	chunkSize = 32 << 10

	// keptSlots is how many slots of an empty buffer are kept: 512 octets of memory.
	keptSlots = 64
)

type chunk [chunkSize]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// A replay holds the octets that may have to be sent again, by their numbers: octet k
// lies in the chunk of number k/chunkSize. It is the Session's mu that guards it, but
// for fill.
type replay struct {
	ring      []*chunk // chunk c in slot c % len(ring); len is a power of two, or 0
	base, end uint64   // octets base to end-1 are there
	room      uint64   // there is memory for those up to room-1
}

// reserve makes memory for n octets after end.
func (r *replay) reserve(n int) {
	first := r.base / chunkSize
	last := (r.end + uint64(n) - 1) / chunkSize
	if need := int(last - first + 1); need > len(r.ring) {
		size := max(4, len(r.ring))
		for size < need {
			size *= 2
		}
		ring := make([]*chunk, size)
		for c := first; c*chunkSize < r.room; c++ {
			ring[c%uint64(size)] = *r.slot(c)
		}
		r.ring = ring
	}
	for c := max(first, (r.room+chunkSize-1)/chunkSize); c <= last; c++ {
		*r.slot(c) = chunks.Get().(*chunk)
		r.room = (c + 1) * chunkSize
	}
}

func (r *replay) slot(c uint64) **chunk { return &r.ring[c&uint64(len(r.ring)-1)] }

// fill puts octets into reserved memory, behind at. It may run while others drop.
func (r *replay) fill(at uint64, p []byte) {
	for len(p) > 0 {
		n := copy((*r.slot(at / chunkSize))[at%chunkSize:], p)
		p = p[n:]
		at += uint64(n)
	}
}

// appendSlices appends to v where the n octets from number at on lie.
func (r *replay) appendSlices(v [][]byte, at uint64, n int) [][]byte {
	for n > 0 {
		c := (*r.slot(at / chunkSize))[at%chunkSize:]
		c = c[:min(n, len(c))]
		v = append(v, c)
		n -= len(c)
		at += uint64(len(c))
	}
	return v
}

// drop forgets the octets before number to.
func (r *replay) drop(to uint64) {
	for c := r.base / chunkSize; c < to/chunkSize; c++ {
		chunks.Put(*r.slot(c))
		*r.slot(c) = nil
	}
	r.base = max(r.base, to)
}

// shrink gives all memory back if nothing is held. Nobody fills.
func (r *replay) shrink() {
	if r.base != r.end || len(r.ring) == 0 {
		return
	}
	for c := r.base / chunkSize; c*chunkSize < r.room; c++ {
		chunks.Put(*r.slot(c))
		*r.slot(c) = nil
	}
	r.room = 0
	if len(r.ring) > keptSlots {
		r.ring = nil
	}
}
