package flight

import "time"

// bound keeps the limit within what is possible.
func (b *Bound) bound() { b.limit = min(max(b.limit, b.floor()), float64(b.o.Most)) }

// floor returns the least limit. On a local way a few frames are no queue worth the name,
// and make proxies wait that want to fill their segments.
func (b *Bound) floor() float64 {
	switch r := b.Rate(); {
	case r == 0:
		return least
	case b.local():
		return first / 4 // 5 ms at 25 Mbit/s
	default:
		return max(least, min(2*frame, r*longest.Seconds()))
	}
}

// local reports whether the way is so short that it is not slow either.
func (b *Bound) local() bool {
	base := b.base.least()
	return base > 0 && base < local && b.o.Rate == 0
}

// target returns the queue that is let stand.
func (b *Bound) target() time.Duration {
	t := b.plainTarget() + max(0, b.spread-late)
	if g := b.given; g.times > 0 {
		// What is not of our making varies, the more the oftener it was found.
		t += (g.mean - b.base.least()) * time.Duration(min(g.times, 4)) / 4
	}
	return t
}

func (b *Bound) plainTarget() time.Duration {
	if r := b.Rate(); r > 0 {
		return max(target, min(longest, seconds(2*frame/r)))
	}
	return target
}

// queue returns how long the octets of round r waited: what each witness says is an
// upper bound.
func (b *Bound) queue(r round) time.Duration {
	q := r.least - b.base.least()
	if b.given.mean > 0 {
		q = r.mean() - b.given.mean
	}
	q = max(0, q)
	if b.o.Socket == nil {
		return q
	}
	p := b.o.Socket.Path()
	if p.RoundTrip == 0 || p.LeastRoundTrip == 0 || r.rate == 0 {
		return q
	}
	return min(q, max(0, p.RoundTrip-p.LeastRoundTrip)+seconds(float64(p.Unsent)/r.rate))
}

// unsent returns the octets that the kernel keeps unsent; 0 if nobody tells.
func (b *Bound) unsent() float64 {
	if b.o.Socket == nil {
		return 0
	}
	return float64(b.o.Socket.Path().Unsent)
}
