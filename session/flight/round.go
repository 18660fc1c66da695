package flight

import "time"

const (
	// steady is how many rounds in a row without a queue say that the way has become
	// faster, so that the limit doubles again.
	steady = 3

	// cutEnough is the part of a limit that is small enough to see whether the delay goes
	// with it.
	cutEnough = 0.75

	// refuted is how many rounds with a queue pass until it is asked again whether more makes
	// no more of it.
	refuted = 16

	// patience is of how many rounds with holes one at least has a moment that shows how
	// long the queue is.
	patience = 4

	// unexplained is how many times the longest silence of a round all its octets must have
	// waited to have stood in a queue: a silence delays those sent during it by its length.
	unexplained = 4

	// unrest is how long the limit may be reached without a pause before the way is emptied
	// for a round, to see how long it is when empty: the least round trip is forgotten
	// after three of them.
	unrest = 10 * time.Second
)

// A round is what was seen from one change of the limit's to the next.
type round struct {
	from  uint64        // it is about octets sent after it
	to    uint64        // it is over when so many are acknowledged; 0: none of its own is yet
	begun time.Duration // when it began, with the first of its own

	least  time.Duration // round trip; 0: none yet
	sum, n time.Duration // of round trips; how many
	rate   float64       // octets per second, the most; 0: not known
	before float64       // that of the round before
	full   bool          // the limit was reached
	limit  float64       // what it was at first
	most   uint64        // octets in flight

	silence time.Duration // the longest before an acknowledgement
}

// see adds to the round what an acknowledgement of total octets says, the last of which
// was sent with k, after a silence.
func (r *round) see(now time.Duration, k mark, total uint64, silence time.Duration) {
	t := max(1, now-k.at)
	if r.least == 0 || t < r.least {
		r.least = t
	}
	r.sum += t
	r.n++
	r.silence = max(r.silence, silence)
	if span := max(now-k.since, k.at-k.begun); span > 0 {
		r.rate = max(r.rate, float64(total-k.acked)/span.Seconds())
	}
}

// mean returns the mean round trip.
func (r *round) mean() time.Duration { return r.sum / r.n }

// An origin is what was so before the limit was made smaller, once or several times.
type origin struct {
	limit  float64 // 0: it was not
	mean   time.Duration
	raised bool // it was made larger
}

// seen returns what round r saw: the delay, and the octets in flight that went with it,
// which by Little's law are fewer than the limit where that was not reached all the time.
func (b *Bound) seen(r round) origin {
	return origin{limit: min(b.limit, r.rate*r.mean().Seconds()), mean: r.mean()}
}

// A given is delay that was found not to be of our making: that of rounds, at least.
type given struct {
	mean  time.Duration // 0: there is none
	times int           // how often it was found
}

// holed is what was seen in rounds in a row that had holes.
type holed struct {
	rounds int
	least  time.Duration
}

// turn ends a round: it draws the conclusions, and begins the next.
func (b *Bound) turn(now time.Duration) {
	r := b.round
	if r.full || r.rate > b.rate.most() {
		b.rate.add(r.rate)
	}
	settle := b.conclude(now, r) // the next round is about what is sent from now on
	b.bound()
	b.round = round{from: b.acked, to: b.sent, begun: now, before: r.rate, limit: b.limit}
	if settle {
		b.round.from, b.round.to = b.sent, 0
	}
}

// conclude makes the limit what round r asks for, and reports whether what is under way
// yet belongs to the limit before.
func (b *Bound) conclude(now time.Duration, r round) (settle bool) {
	if b.given.mean > 0 {
		b.given.mean = min(b.given.mean, r.mean())
	}
	b.spread += (min(r.mean()-r.least, b.base.least()/4) - b.spread) / 8
	b.judge(r)
	if b.given.mean < b.base.least()+2*b.plainTarget() {
		b.given = given{}
	}
	holes := b.holes(&r)
	trip, q, target := r.least, b.queue(r), b.target()
	if b.given.mean > 0 {
		trip = r.mean()
	}
	if !r.full {
		b.restful = now
	}
	if was := b.drained; was > 0 {
		// The way was empty, and trip has seen how long it is.
		b.drained, b.restful = 0, now
		if q <= target {
			b.limit = was
			return true
		}
	}
	switch {
	case !r.full && (q <= target || r.rate < b.rate.most()*3/4):
		// There was not more to send, or the queue is others'.
		b.growths = 0
		return false
	case b.starting:
		if q <= max(target, b.base.least()/8) {
			if r.full && b.limit <= r.limit && b.local() {
				b.limit *= 1.25 // too many came too late for it to double
			}
			return false
		}
		if r.rate >= r.before*5/4 {
			if r.full {
				// The carrier doubles as well, and is behind.
				b.limit *= 2
			}
			return false
		}
		fits := r.rate * (trip - q + target).Seconds()
		if !r.full {
			// It may carry more than there was, and faster.
			b.limit = min(b.limit, max(fits, float64(r.most), first))
			return true
		}
		b.starting, b.started = false, true
		b.limit = min(b.limit, fits)
		return true
	case q > target && holes:
		b.growths = 0
		return true
	case q > target:
		b.growths = 0
		if !r.full {
			// The limit is too large to be reached: the carrier's buffers are full, or who
			// sends has a window of his own.
			b.limit = min(b.limit, max(float64(r.most), b.rate.most()*(trip-q+target).Seconds()))
		}
		if b.origin.limit == 0 {
			b.origin = b.seen(r)
		}
		if b.refuted--; b.refuted < 0 && b.limit < 2*b.floor() && b.o.Rate == 0 {
			// There is hardly less to see whether the delay goes with it: there is more.
			b.origin = origin{b.limit, r.mean(), true}
			b.limit *= 2
			return true
		}
		b.limit *= 1 - min(0.9, float64(q-target)/float64(trip))
		return true
	case now-b.restful > max(b.unrest(), 20*b.base.least()):
		b.drained, b.origin = b.limit, b.seen(r)
		b.limit *= max(0.5, 0.75*float64(b.base.least())/float64(r.least))
		return true
	}
	b.origin = origin{}
	b.growths++
	if q > target/2 {
		b.growths = 0
	}
	if b.growths > steady {
		b.starting, b.growths = true, 0
		return false
	}
	b.limit *= 1 + min(0.25, float64(target-q)/float64(trip))
	return true
}

// holes reports whether delay in round r is no evidence: it had silences as a lost segment
// below makes them. For so many rounds in a row the least round trip is the least of all.
func (b *Bound) holes(r *round) bool {
	if r.silence < max(2*target, b.base.least()/4, seconds(4*frame/b.Rate())) {
		b.holed = holed{}
		return false
	}
	if over := r.least - b.base.least() - unexplained*r.silence; over > b.target() && b.given.mean == 0 {
		// No silence explains so much.
		r.least -= unexplained * r.silence
		b.holed = holed{}
		return false
	}
	if b.holed.rounds > 0 {
		r.least = min(r.least, b.holed.least)
	}
	b.holed.rounds++
	b.holed.least = r.least
	if b.holed.rounds < patience {
		return true
	}
	b.holed = holed{}
	return false
}

// unrest returns how long the limit may be reached without a pause. Delay that is taken
// as given may be of our making by now.
func (b *Bound) unrest() time.Duration {
	if b.given.mean > 0 {
		return unrest / 3
	}
	return unrest
}

// judge asks whether the delay went with the limit when that was made smaller, or larger.
func (b *Bound) judge(r round) {
	o := b.origin
	part := b.limit / o.limit
	others := b.given.mean > 0 && part < 1 && r.mean() > o.mean*17/16 // it even grew
	if o.limit == 0 || !o.raised && part > cutEnough && !others {
		return
	}
	b.origin = origin{}
	expected := time.Duration(float64(o.mean) * part)
	between := (o.mean + expected) / 2
	if o.raised {
		between = (3*o.mean + expected) / 4 // the limit is not reached at once
	}
	switch {
	case o.raised == (r.mean() > between):
		b.limit = min(b.limit, o.limit)
		b.given = given{}
		if o.raised {
			b.refuted = refuted
		}
	case !o.raised && r.mean() > o.mean*5/4:
		b.origin = b.seen(r) // it grows yet
	default:
		b.given = given{r.mean(), b.given.times + 1}
		b.limit = max(b.limit, o.limit)
	}
}
