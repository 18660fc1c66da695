package flight

import "time"

// marksSize is how many moments of sending are remembered: more than a hundred a round
// trip are left when the ring was full and every other was forgotten.
const marksSize = 256

// A mark remembers when octets were sent, and how things were then: what is needed to
// know the round trip and the delivery rate when they are acknowledged
// (draft-ietf-ccwg-bbr, section 4.1, "Delivery Rate Samples").
type mark struct {
	upTo  uint64        // octets sent in all, these included
	at    time.Duration // when
	acked uint64        // octets acknowledged in all at that time
	since time.Duration // when the last of those had been acknowledged
	begun time.Duration // when the last of those had been sent
}

// marks is a queue of them, oldest first, in a ring.
type marks struct {
	ring    [marksSize]mark
	head, n int
}

func (m *marks) first() *mark { return &m.ring[m.head] }
func (m *marks) last() *mark  { return &m.ring[(m.head+m.n-1)%marksSize] }

// push adds a mark behind the others.
func (m *marks) push(k mark) {
	if m.n == marksSize {
		m.thin()
	}
	m.n++
	*m.last() = k
}

// thin joins each two neighbours: their octets count as sent when the first were.
func (m *marks) thin() {
	for i := 0; i < m.n/2; i++ {
		k := m.ring[(m.head+2*i)%marksSize]
		k.upTo = m.ring[(m.head+2*i+1)%marksSize].upTo
		m.ring[(m.head+i)%marksSize] = k
	}
	m.n /= 2
}

// reach drops the marks of which total octets acknowledge all, and returns the one that
// the last of those octets was sent with.
func (m *marks) reach(total uint64) (k mark, ok bool) {
	for m.n > 0 {
		k = *m.first()
		if k.upTo > total {
			return k, true
		}
		m.head = (m.head + 1) % marksSize
		m.n--
		if k.upTo == total {
			return k, true
		}
	}
	return mark{}, false
}
