// Package flight decides how many octets may be in flight on a way: enough to fill it,
// and not enough to fill the buffers along it, which would make everybody else wait.
package flight

import (
	"math"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// Options are what is known of the way from the start.
type Options struct {
	Rate   float64        // octets per second, if it is known to be slow; else 0
	Socket carrier.Socket // tells what the kernel knows of the way; nil: nothing
	Most   int            // octets that Limit never exceeds
}

// A Bound watches what is sent and acknowledged on one way. It is not for concurrent
// use. Times are since any fixed moment, and never go back.
type Bound struct{ o Options }

// New returns a Bound for a way on which nothing was sent.
func New(o Options) *Bound { return &Bound{o} }

// Sent notes that n more octets were handed to the way.
func (b *Bound) Sent(now time.Duration, n int) {}

// Acked notes that the peer has so many octets in all.
func (b *Bound) Acked(now time.Duration, total uint64) {}

// Limit returns how many octets may be in flight.
func (b *Bound) Limit() int { return b.o.Most }

// Burst returns how many octets pass in about two milliseconds, at least a full Ethernet
// frame's.
func (b *Bound) Burst() int { return math.MaxInt }

// Rate returns the octets per second that the way was seen to carry; 0: not known yet.
func (b *Bound) Rate() float64 { return 0 }

// RoundTrip returns the time from sending to acknowledgement, smoothed, and the least
// that was seen lately; 0: not known yet.
func (b *Bound) RoundTrip() (smoothed, least time.Duration) { return 0, 0 }
