package fair

import (
	"encoding/binary"
	"math"
	"time"
)

// What RFC 8289 leaves to choose.
const (
	// target is how long the queue of a flow may stand: ten times what section 4.3 of
	// RFC 8289 takes for a queue that all flows share. Here only those wait that fill
	// it, and they fill the way better with some in hand: acknowledgements from inside a
	// tunnel come in bunches, and where the carrier sends a segment again, none come for
	// a round trip. Over 100 Mbit/s and 50 ms with 1 % lost, downloads had 83 to 87
	// Mbit/s with this and interval, and 74 to 82 with half of both, three runs each.
	target = 50 * time.Millisecond

	// interval is how long it may be longer: four times the round trip of most connections
	// over the internet (section 4.2 of RFC 8289), since the carrier's own queue, pace and
	// repairs are part of those inside a tunnel. Less signals again before the first
	// signal has had its effect.
	interval = 400 * time.Millisecond

	// spared is how many of a flow's largest packets never stand: TCP keeps two in
	// flight, however often it is told (RFC 5681, section 3.1). RFC 8289 spares one.
	spared = 2
)

// codel is the state of RFC 8289, section 4 and appendix A, for one flow. Its times are
// the Queue's.
type codel struct {
	above    time.Duration // when the queue will have stood for an interval; 0: it does not stand
	next     time.Duration // when to signal again
	count    uint32        // signals since it stands
	last     uint32        // count when it stood last
	dropping bool
}

// stands reports whether the queue of f, with head e, has stood for an interval.
func (f *flow) stands(now time.Duration, e *entry) bool {
	c := &f.codel
	if e.excused || now-e.at < target || f.octets <= spared*f.largest {
		c.above = 0
		return false
	}
	if c.above == 0 {
		c.above = now + interval
		return false
	}
	return now >= c.above
}

// judge returns the head of f, having dropped what RFC 8289, section 5.5, says. Where a
// packet says that it may be marked instead, it is. nil: f has none left.
func (q *Queue) judge(now time.Duration, f *flow) *entry {
	e := f.head
	if e == nil {
		f.codel.above, f.codel.dropping = 0, false
		return nil
	}
	if e.judged {
		return e
	}
	c := &f.codel
	stands := f.stands(now, e)
	switch {
	case c.dropping && !stands:
		c.dropping = false
	case c.dropping:
		for c.dropping && now >= c.next {
			c.count++
			e, stands = q.signal(now, f)
			if !stands {
				c.dropping = false
				break
			}
			c.next = law(c.next, c.count)
			if e.judged { // told: once for each packet
				break
			}
		}
	case stands:
		e, _ = q.signal(now, f)
		c.dropping = true
		// If it stood not long ago, begin where that ended.
		since := c.count - c.last
		c.count = 1
		if since > 1 && now-c.next < 16*interval {
			c.count = since
		}
		c.next = law(now, c.count)
		c.last = c.count
	}
	if e != nil {
		e.judged = true
	}
	return e
}

// signal tells the sender of the head of f: itself, if it can be reached, or by a mark, or
// by a drop, of a super-packet one segment. It returns what is the head then, and whether
// the queue stands still.
func (q *Queue) signal(now time.Duration, f *flow) (*entry, bool) {
	e := f.head
	if q.quench(now, e) {
		e.judged = true
		return e, true
	}
	if e.known && mark(e.Packet.Data) {
		q.marked++
		e.judged = true
		return e, true
	}
	before := e.left()
	if e.loseSegment() {
		f.octets -= before - e.left()
		q.octets -= before - e.left()
		q.dropped++
	} else {
		q.drop(f)
	}
	if f.head == nil {
		f.codel.above = 0
		return nil, false
	}
	return f.head, f.stands(now, f.head)
}

// quench tells the sender of e directly, once, and reports whether it can be reached.
func (q *Queue) quench(now time.Duration, e *entry) bool {
	if !e.told && e.known && q.Quench != nil && q.Quench(e.Packet.Data, now-e.at) {
		e.told = true
		q.quenched++
	}
	return e.told
}

// law is when to signal next (RFC 8289, section 4.3).
func law(t time.Duration, count uint32) time.Duration {
	return t + time.Duration(float64(interval)/math.Sqrt(float64(max(count, 1))))
}

// mark says in an IP header that there was congestion, in place, and reports whether
// that was possible: both ends understand it (RFC 3168, section 5).
func mark(d []byte) bool {
	const ce = 3
	if d[0]>>4 == 6 { // the traffic class is bits 4 to 11 (RFC 8200, section 3)
		if d[1]>>4&ce == 0 {
			return false
		}
		d[1] |= ce << 4
		return true
	}
	if d[1]&ce == 0 {
		return false
	}
	before := binary.BigEndian.Uint16(d)
	d[1] |= ce
	// RFC 1624, section 3: HC' = ~(~HC + ~m + m')
	sum := uint32(^binary.BigEndian.Uint16(d[10:])) + uint32(^before) + uint32(binary.BigEndian.Uint16(d))
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(d[10:], ^uint16(sum))
	return true
}
