package farhalf

import (
	"sync/atomic"
	"time"
)

const (
	// defaultSilence is how long a far side may say nothing: a login that looks up
	// names first, a disk that wakes up, a machine that is busy.
	defaultSilence = time.Minute

	// slowest is the slowest line that is thought of, in octets in a second: 300
	// bit/s with a start and a stop bit.
	slowest = 30

	// maxUnderWay is how much of what we send is taken to be still on its way there,
	// in octets. More is sent at a time only where it has proved faster.
	maxUnderWay = 8 << 10
)

// A silence is the clock of a far side that should say something. It ends the Stream
// when nothing has come for as long as allowed, and the line had time besides for what
// we sent. Its methods are called from one goroutine.
type silence struct {
	allowed time.Duration
	through time.Time // when what we sent is there, even on the slowest line
	timer   *time.Timer
	over    atomic.Bool
}

// listen starts the clock.
func listen(allowed time.Duration, end func()) *silence {
	q := &silence{allowed: allowed}
	q.timer = time.AfterFunc(allowed, func() {
		q.over.Store(true)
		end()
	})
	return q
}

// heard notes that something came.
func (q *silence) heard() { q.timer.Reset(max(0, time.Until(q.through)) + q.allowed) }

// sent notes that n octets are sent.
func (q *silence) sent(n int) {
	q.through = time.Now().Add(time.Duration(min(n, maxUnderWay)) * time.Second / slowest)
	q.heard()
}

// stop stops the clock, and reports whether it was too late.
func (q *silence) stop() (over bool) { return !q.timer.Stop() || q.over.Load() }
