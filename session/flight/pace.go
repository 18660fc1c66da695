package flight

import "time"

// A pace keeps what may go at once from going at once: after a pause, after a silence
// that ends with a lump of acknowledgements, when the limit grows. A way's buffer that
// has room for a queue of the target's length may have none for a whole limit.
type pace struct {
	room float64       // octets that may go now
	at   time.Duration // when that was so
}

const (
	// paceGain is how much faster than the way was seen to carry octets may go: enough to
	// find out that it has become faster.
	paceGain = 1.25

	// startGain is the same while the limit doubles again.
	startGain = 2.5

	// lump is what may go at once, as time: timers and acknowledgements are as late as that.
	lump = 2 * burst
)

// paceRate returns how fast octets may go, in octets per second; 0: as they like, because
// it is not known yet what the way carries, or it is so short that timers are too coarse.
func (b *Bound) paceRate() float64 {
	switch {
	case b.base.least() <= 2*lump:
		return 0
	case b.starting && !b.started:
		return 0
	case b.starting:
		return b.rate.most() * startGain
	}
	return b.rate.most() * paceGain
}

// pass makes the room what it is now.
func (b *Bound) pass(now time.Duration) {
	rate := b.paceRate()
	most := rate*lump.Seconds() + frame
	if b.pace.room = min(most, b.pace.room+rate*(now-b.pace.at).Seconds()); rate == 0 {
		b.pace.room = most
	}
	b.pace.at = now
}

// untilRoom returns how long to wait until there is room for a burst; 0: there is.
func (b *Bound) untilRoom() time.Duration {
	missing := float64(b.Burst()) - b.pace.room
	if missing <= 0 {
		return 0
	}
	return seconds(missing / b.paceRate())
}
