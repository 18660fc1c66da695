package flight

import "time"

const (
	// steady is how many rounds in a row without a queue say that the way has become
	// faster, so that the limit doubles again.
	steady = 3

	// untiring is how many cuts in a row are in vain before the delay is taken as given.
	untiring = 2

	// unrest is how long a queue may stand before the way is emptied for a round, to see
	// how long it is when empty: the least round trip is forgotten after three of them.
	unrest = 10 * time.Second
)

// A round is what was seen from one change of the limit's to the next.
type round struct {
	from   uint64        // it is about octets sent after it
	to     uint64        // it is over when so many are acknowledged; 0: none of its own is yet
	begun  time.Duration // when it began, with the first of its own
	least  time.Duration // round trip; 0: none yet
	rate   float64       // octets per second, the most; 0: not known
	before float64       // that of the round before
	full   bool          // the limit was reached
}

// see adds to the round what an acknowledgement of total octets says, the last of which
// was sent with k.
func (r *round) see(now time.Duration, k mark, total uint64) {
	if t := max(1, now-k.at); r.least == 0 || t < r.least {
		r.least = t
	}
	if span := max(now-k.since, k.at-k.begun); span > 0 {
		r.rate = max(r.rate, float64(total-k.acked)/span.Seconds())
	}
}

// A cut is what was so when the limit was last made smaller because of a queue.
type cut struct {
	from, to float64       // the limit; 0: there was none, or it has been judged
	trip     time.Duration // the round trip with the larger one
}

// turn ends a round: it draws the conclusions, and begins the next.
func (b *Bound) turn(now time.Duration) {
	r := b.round
	if r.full || r.rate > b.rate.most() {
		b.rate.add(r.rate)
	}
	settle := false // the next round is about what is sent from now on
	if r.least > 0 {
		settle = b.conclude(now, r)
		b.bound()
	}
	b.round = round{from: b.acked, to: b.sent, begun: now, before: r.rate}
	if settle {
		b.round.from, b.round.to = b.sent, 0
	}
}

// conclude makes the limit what round r asks for, and reports whether what is under way
// yet belongs to the limit before.
func (b *Bound) conclude(now time.Duration, r round) (settle bool) {
	b.judge(r)
	if b.given > 0 && b.given < b.base.least()+2*b.plainTarget() {
		b.given = 0
	}
	q, target := b.queue(r), b.target()
	if q < target/4 || !r.full {
		b.restful = now
	}
	switch {
	case b.drained > 0:
		// The way was empty, and trip has seen how long it is.
		b.limit, b.drained = b.drained, 0
		b.restful = now
		return true
	case b.starting && q > max(target, b.base.least()/8) && r.rate < r.before*5/4:
		b.starting = false
		b.limit = min(b.limit, r.rate*(b.reference()+target).Seconds())
		return true
	case b.starting:
		return false
	case q > target:
		b.growths = 0
		c := cut{from: b.limit, trip: r.least}
		b.limit *= 1 - min(0.9, float64(q-target)/float64(r.least))
		b.bound()
		c.to = b.limit
		if b.fruitless == 0 {
			b.origin = c.from
		}
		b.cut = c
		return true
	case !r.full:
		b.growths = 0
		return false
	case now-b.restful > max(unrest, 20*b.smoothed):
		b.drained = b.limit
		b.limit *= max(0.5, 0.75*float64(b.base.least())/float64(r.least))
		return true
	}
	b.growths++
	if q > target/2 {
		b.growths = 0
	}
	if b.growths > steady {
		b.starting, b.growths = true, 0
		return false
	}
	b.limit *= 1 + float64(target-q)/float64(r.least)
	return true
}

// judge asks whether the delay went with the limit when that was last made smaller.
func (b *Bound) judge(r round) {
	c := b.cut
	b.cut = cut{}
	if c.from == 0 {
		return
	}
	expected := time.Duration(float64(c.trip) * c.to / c.from)
	if r.least <= (c.trip+expected)/2 {
		b.fruitless = 0
		return
	}
	if b.fruitless++; b.fruitless >= untiring {
		b.given = r.least
		b.limit = max(b.limit, b.origin)
		b.fruitless = 0
	}
}
