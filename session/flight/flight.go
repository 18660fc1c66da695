// Package flight decides how many octets may be in flight on a way: enough to fill it,
// and not enough to fill the buffers along it, which would make everybody else wait.
//
// What is below a session is a TCP connection and whatever buffers lie before it: a
// window of ssh's, pipes, sockets. None of them can be asked, most of them are far too
// long, and a loss below shows here as no more than a silence and then a lump. What can
// be seen is when octets were sent and when the peer said that it has them. So:
//
//   - The queue is the round trip less the least that was seen (Vegas: Brakmo and
//     Peterson, 1995). Of a round's samples the least counts, since lumps, jitter and a
//     loss lengthen some of them but not all, and a queue that stands lengthens all.
//   - The limit follows it in proportion (FAST TCP: Wei, Jin, Low and Hegde, 2006), so
//     that a queue of target stands, which keeps the way busy between two lumps of
//     acknowledgements and nobody waiting.
//   - At the start, and when the way has become faster, it doubles every round trip.
//   - When it was made smaller and the delay stayed, the delay was not of our making:
//     it is others' queue, or a longer way, or losses, or a proxy that keeps the end of what
//     it has until more comes. Then it is taken as given. Where there is hardly anything to
//     make smaller the limit is made larger, to see whether the delay grows with it.
//   - Octets go no faster than the way was seen to carry them and a quarter more, so
//     that what a pause or a silence has let pile up does not overflow the way's buffer.
//   - A silence is bridged: what is overdue is thought to have arrived behind a lost
//     segment, so that the way does not run dry meanwhile. Rounds with silences are no
//     evidence for a queue, unless many of them agree.
//
// It has no clock, no goroutine and no lock.
package flight

import (
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// late is how late acknowledgements come at most, for being sent together.
	late = 2 * time.Millisecond

	// target is the queue that is let stand: that, and as much again for being sent.
	target = 2 * late

	// burst is how long nobody minds waiting.
	burst = 2 * time.Millisecond

	// frame is a full Ethernet frame's packet, and a little around it.
	frame = 1538

	// longest is the longest target, on ways so slow that two frames take more.
	longest = 50 * time.Millisecond

	// first is how much may be in flight before anything is known of the way: less than
	// what a TCP connection that has been used a little takes at once.
	first = 64 << 10

	// least is how much may always be in flight: a keystroke's packet or two, with headers.
	least = 256

	// local is longer than a way within a building, which is not slow either.
	local = time.Millisecond

	// shortest is the shortest round: on ways of a tenth of a millisecond a round trip is
	// made of the two sides' schedulers.
	shortest = 8 * time.Millisecond
)

// Options are what is known of the way from the start.
type Options struct {
	Rate   float64        // octets per second, if it is known to be slow; else 0
	Socket carrier.Socket // tells what the kernel knows of the way; nil: nothing
	Most   int            // octets that Limit never exceeds
}

// A Bound watches what is sent and acknowledged on one way. It is not for concurrent
// use. Times are since any fixed moment, and never go back.
type Bound struct {
	o Options

	sent, acked uint64
	ackedAt     time.Duration // when the last acknowledgement came, or sending began anew
	begun       time.Duration // when the last octet that is acknowledged was sent
	heard       time.Duration // when the last acknowledgement came; 0: nothing was under way since
	marks       marks

	limit    float64 // octets
	credit   float64 // octets beyond it, while acknowledgements are overdue
	pace     pace
	starting bool // the limit doubles
	started  bool // it has done so for the first time

	smoothed time.Duration
	base     leastOf // the least round trip of late: that of the empty way
	given    given
	rate     mostOf // the most octets per second of late

	round   round
	spread  time.Duration // how much longer the mean round trip of a round is than the least, smoothed
	holed   holed
	origin  origin
	refuted int           // rounds to go until the limit may be made larger to see what that does
	growths int           // rounds in a row without a queue
	restful time.Duration // when the limit was last not reached for a round, or the way emptied
	drained float64       // the limit to go back to after a round on an empty way; 0: none
}

// New returns a Bound for a way on which nothing was sent.
func New(o Options) *Bound {
	b := &Bound{o: o, limit: first, starting: true}
	if o.Rate > 0 {
		// What a quarter of a second carries: of more, the first keystroke would be late.
		b.limit, b.starting = min(first, o.Rate/4), false
	}
	b.bound()
	return b
}

// Sent notes that n more octets were handed to the way.
func (b *Bound) Sent(now time.Duration, n int) {
	if n <= 0 {
		return
	}
	if b.sent == b.acked {
		b.ackedAt, b.begun, b.heard = now, now, 0
	}
	b.pass(now)
	b.pace.room -= float64(n)
	b.sent += uint64(n)
	b.round.most = max(b.round.most, b.sent-b.acked)
	if b.sent-b.acked >= uint64(max(b.limit*7/8, b.limit-float64(b.Burst()))) {
		b.round.full = true
	}
	b.marks.push(mark{upTo: b.sent, at: now, acked: b.acked, since: b.ackedAt, begun: b.begun})
}

// Acked notes that the peer has so many octets in all.
func (b *Bound) Acked(now time.Duration, total uint64) {
	total = min(total, b.sent)
	if total <= b.acked {
		return
	}
	k, ok := b.marks.reach(total)
	came, silence := total-b.acked, time.Duration(0)
	if b.heard > 0 {
		silence = now - b.heard
	}
	b.acked, b.ackedAt, b.begun, b.heard = total, now, k.at, now
	if over := float64(b.sent-b.acked) - b.limit; over < b.credit {
		b.credit = max(0, over)
	}
	if !ok {
		return
	}
	b.pass(now)
	b.trip(now, max(1, now-k.at))
	if b.starting && b.round.full && now-k.at < b.base.least()*5/4+b.target() {
		b.limit += float64(came)
		b.bound()
	}
	if k.upTo <= b.round.from {
		return // it was sent before the limit was what it is
	}
	if b.round.to == 0 {
		b.round.begun, b.round.to = now, b.sent
	}
	b.round.see(now, k, total, silence)
	if total >= b.round.to && now-b.round.begun >= shortest {
		b.turn(now)
	}
}

// trip notes a round trip.
func (b *Bound) trip(now, t time.Duration) {
	if b.smoothed == 0 {
		b.smoothed = t
	}
	b.smoothed += (t - b.smoothed) / 8 // RFC 6298, section 2
	b.base.add(now, t)
}

// Limit returns how many octets may be in flight.
func (b *Bound) Limit() int {
	limit := b.limit + b.credit
	if b.paceRate() > 0 {
		limit = min(limit, float64(b.sent-b.acked)+max(0, b.pace.room))
	}
	return min(int(limit), b.o.Most)
}

// Overdue is to be called while the limit is reached. It may raise it: because it was
// held back to keep the pace, and else since what is overdue has likely arrived behind
// something that was lost. It returns after how long it is to be called again if no
// acknowledgement comes before.
func (b *Bound) Overdue(now time.Duration) time.Duration {
	b.pass(now)
	if b.paceRate() > 0 && float64(b.sent-b.acked) < b.limit-float64(b.Burst()) {
		return max(burst/2, b.untilRoom())
	}
	again := max(burst, b.smoothed/16)
	b.round.full = true
	rate := b.rate.most()
	if b.sent == b.acked || rate == 0 {
		return again
	}
	gap := now - b.ackedAt
	if gap > b.target()+b.base.least()/16 && b.unsent() < rate*target.Seconds() {
		b.credit = min(rate*gap.Seconds(), b.limit)
	}
	return again
}

// Burst returns how many octets pass in about two milliseconds, at least a full Ethernet
// frame's.
func (b *Bound) Burst() int { return max(frame, int(b.Rate()*burst.Seconds())) }

// Rate returns the octets per second that the way was seen to carry; 0: not known yet.
func (b *Bound) Rate() float64 {
	if r := b.rate.most(); r > 0 {
		return r
	}
	return b.o.Rate
}

// RoundTrip returns the time from sending to acknowledgement, smoothed, and the least
// that was seen lately; 0: not known yet.
func (b *Bound) RoundTrip() (smoothed, least time.Duration) { return b.smoothed, b.base.least() }

func seconds(s float64) time.Duration { return time.Duration(min(s, 1e6) * float64(time.Second)) }
