package lab

import (
	"math"
	"math/rand/v2"
	"time"
)

// A Way is one direction of a link. The zero value passes everything at once.
//
// Octets are those of whole Ethernet frames as they are handed to a device: the 14 of
// the header and the packet, without preamble, check sequence and gap, as tc counts
// them. A full packet of 1,500 octets is a frame of 1,514.
type Way struct {
	Rate   int64         // bit/s; a frame is sent when the one before it has left; 0 is at once
	Buffer int           // octets that may wait, or be partly sent, where a Rate holds; a frame that finds no room is dropped; 0 is no bound but maxHeld
	Delay  time.Duration // from a frame's last bit sent to its coming out
	Jitter time.Duration // more of it: for each frame anything from 0 to this, all alike likely

	// Reorder lets Jitter put frames out of order. Without it, a frame waits for those
	// before it.
	Reorder bool

	// Loss is the part of the frames with IP packets that vanish on the way: after the
	// buffer, so that they have taken their time on the link. Other frames (ARP) are
	// no part of the way that is meant, and never vanish.
	Loss float64

	// Seed decides which frames vanish and what each one's jitter is: the n-th frame
	// that comes to one Way always fares alike.
	Seed uint64
}

// An outcome is what becomes of a frame.
type outcome int

const (
	passes  outcome = iota
	dropped         // found no room
	lost            // vanished on the way
)

// A lane is a Way in use. It does no I/O and knows no clock: times are nanoseconds
// from any beginning.
type lane struct {
	Way
	dice *rand.Rand

	free  int64 // when all frames taken so far have been sent
	carry int64 // what free is short of, in units of 1/Rate ns
	last  int64 // when the last frame comes out that keeps the order
}

func newLane(w Way) lane {
	return lane{Way: w, dice: rand.New(rand.NewPCG(w.Seed, w.Seed))}
}

// become makes it another Way. Frames taken so far keep their times, and those that
// come now stay behind them.
func (l *lane) become(w Way) {
	next := newLane(w)
	next.free, next.last = l.free, l.last
	*l = next
}

// take says what becomes of a frame of size octets that comes at a time, and when it
// comes out. Frames are taken in the order in which they come.
func (l *lane) take(now int64, size int, ip bool) (due int64, o outcome) {
	chance, shake := l.dice.Float64(), l.dice.Float64() // always both: each frame has its own
	due = now
	if l.Rate > 0 {
		if l.free <= now {
			l.free, l.carry = now, 0
		}
		if l.Buffer > 0 && l.waiting(now)+size > l.Buffer {
			return 0, dropped
		}
		bits := int64(size)*8*int64(time.Second) + l.carry
		l.free += bits / l.Rate
		l.carry = bits % l.Rate
		due = l.free
	}
	due += int64(l.Delay) + int64(shake*float64(l.Jitter))
	if ip && chance < l.Loss {
		return 0, lost
	}
	if !l.Reorder {
		due = max(due, l.last)
		l.last = due
	}
	return due, passes
}

// waiting is how many octets are still to be sent.
func (l *lane) waiting(now int64) int {
	return int(math.Round(float64(l.free-now) * float64(l.Rate) / 8 / float64(time.Second)))
}
