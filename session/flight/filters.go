package flight

import "time"

// leastOf is the least of the values of the last twenty to thirty seconds in which any
// came.
type leastOf struct {
	parts [3]time.Duration // of ten seconds each, the newest first; 0: none
	until time.Duration    // when the newest ends
}

const partSize = unrest

func (l *leastOf) add(now, v time.Duration) {
	if now >= l.until {
		l.parts[2], l.parts[1], l.parts[0] = l.parts[1], l.parts[0], 0
		l.until = now + partSize
	}
	if l.parts[0] == 0 || v < l.parts[0] {
		l.parts[0] = v
	}
}

// least returns it; 0: there is none.
func (l *leastOf) least() (v time.Duration) {
	for _, p := range l.parts {
		if p > 0 && (v == 0 || p < v) {
			v = p
		}
	}
	return v
}

// mostOf is the most of the last eight values.
type mostOf struct {
	values [8]float64
	next   int
	top    float64
}

func (m *mostOf) add(v float64) {
	if v == 0 {
		return
	}
	m.values[m.next%len(m.values)] = v
	m.next++
	m.top = 0
	for _, v := range m.values {
		m.top = max(m.top, v)
	}
}

// most returns it; 0: there is none.
func (m *mostOf) most() float64 { return m.top }
