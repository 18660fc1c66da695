package flight

import "time"

// marksSize is how many moments of sending are remembered: when the ring is full,
// what was sent within a fiftieth of the time that it is about becomes one.
const marksSize = 256

// A mark remembers when octets were sent, and how things were then: what is needed to
// know the round trip and the delivery rate when they are acknowledged
// (draft-cheng-iccrg-delivery-rate-estimation).
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

// thin joins what was sent at about the same time: it counts as sent when the first was.
func (m *marks) thin() {
	same := (m.last().at - m.first().at) / (marksSize / 2)
	kept := 0 // index of the last
	for i := 1; i < m.n; i++ {
		k, last := m.ring[(m.head+i)%marksSize], &m.ring[(m.head+kept)%marksSize]
		if k.at-last.at <= same {
			last.upTo = k.upTo
			continue
		}
		kept++
		m.ring[(m.head+kept)%marksSize] = k
	}
	m.n = kept + 1
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
