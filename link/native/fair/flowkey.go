package fair

import (
	"hash/maphash"

	"github.com/bodkin-net/bodkin/tunnel"
)

// bucket returns which of the buckets a packet with headers h belongs to: by its addresses
// and protocol, and by its ports if it is TCP or UDP and no fragment, of which only one
// has them. Nobody who does not know the seed can aim at a bucket.
func bucket(seed maphash.Seed, d []byte, h tunnel.Header) int {
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
	return int(maphash.Bytes(seed, key[:n+1]) % buckets)
}
