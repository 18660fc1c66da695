package flight

import "time"

// Where the kernel's TCP paces (BBR), it knows the way better than can be seen from here:
// it has its own samples of each segment, and does not take for a queue what waits behind
// a lost one. Then it decides how much is in flight, and what is bounded is what it has
// not sent yet: so much that it never has nothing to send between two looks at it.

const (
	// unsent is what the kernel may keep unsent, as time at the way's rate.
	unsent = 3 * burst

	// leastUnsent is that in octets at least: a batch, whatever little the way was seen
	// to carry so far.
	leastUnsent = 32 << 10

	// look is how often the kernel is asked at most.
	look = burst / 2
)

// A kernel is what the kernel said last.
type kernel struct {
	paces  bool
	asked  bool
	at     time.Duration // when it was asked
	unsent float64       // octets, then and since
}

// ask asks the kernel what it has not sent yet, unless it did so just now.
func (b *Bound) ask(now time.Duration) {
	k := &b.kernel
	if b.o.Socket == nil || k.asked && now-k.at < look {
		return
	}
	p := b.o.Socket.Path()
	*k = kernel{p.Paced && b.rate.most() > 0, true, now, float64(p.Unsent)}
}

// kernelRoom returns how many octets more the kernel may get.
func (b *Bound) kernelRoom() float64 {
	return max(0, max(leastUnsent, b.rate.most()*unsent.Seconds())-b.kernel.unsent)
}
