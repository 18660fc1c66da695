package fair

import (
	"hash/maphash"

	"github.com/bodkin-net/bodkin/tunnel"
)

// ways is how many flows may have the same place by their hash. Ping or bulk, nobody shares
// a queue with somebody by chance before that many do: with one way, one name in a hundred
// would be looked up behind a transfer, if ten of them run.
const ways = 8

// place returns the flow of a packet with headers h: the one that it is known as, else one
// that has nothing waiting, else, all ways being taken, one that it shares. Only a flow that
// has shared may then find a place of its own, and overtake itself once.
func (q *Queue) place(d []byte, h tunnel.Header) *flow {
	name := hash(q.seed, d, h)
	at := int(name % (buckets / ways) * ways)
	set := q.flows[at : at+ways]
	for i := range set {
		if set[i].name == name {
			return &set[i]
		}
	}
	for i := range set {
		if set[i].turns == nil {
			set[i] = flow{name: name}
			return &set[i]
		}
	}
	return &set[name>>32%ways]
}

// hash names the flow of a packet with headers h: by its addresses and protocol, and by its
// ports if it is TCP or UDP and no fragment, of which only one has them. Nobody who does
// not know the seed can aim at a place.
func hash(seed maphash.Seed, d []byte, h tunnel.Header) uint64 {
	var key [2*16 + 4 + 1]byte
	n := 0
	if h.Version == 4 {
		n = copy(key[:], d[12:20])
	} else {
		n = copy(key[:], d[8:40])
	}
	if !h.Fragment && (h.Protocol == tunnel.ProtoTCP || h.Protocol == tunnel.ProtoUDP) {
		n += copy(key[n:], d[h.Transport:h.Transport+4])
	}
	key[n] = byte(h.Protocol)
	return maphash.Bytes(seed, key[:n+1])
}
