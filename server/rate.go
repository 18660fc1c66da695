package server

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// burstTime is how long a bucket fills until it is full: what may pass at once.
	// Longer, and a small rate comes in gulps; shorter, and timers set the pace.
	burstTime = 100 * time.Millisecond

	// pieceTime is how much is read at once: what comes behind it waits as long, and in
	// it what the client says of octets that go the other way.
	pieceTime = 10 * time.Millisecond

	// minPiece is the least that is read at once, in octets.
	minPiece = 4 << 10

	// minBurst is the least that may pass at once, in octets: a super-packet and the
	// rest of a batch.
	minBurst = 128 << 10
)

// A Bucket lets so many octets pass in a second. Its methods may be called by many
// goroutines.
type Bucket struct {
	rate atomic.Int64 // octets per second; 0: no limit

	mu     sync.Mutex
	tokens float64 // octets that may pass now; below 0: that are owed
	filled time.Time
}

// NewBucket makes a full Bucket for rate octets per second; 0: no limit.
func NewBucket(rate int64) *Bucket {
	b := &Bucket{filled: time.Now()}
	b.rate.Store(rate)
	b.tokens = burst(rate)
	return b
}

// Set changes the rate.
func (b *Bucket) Set(rate int64) {
	if b.rate.Swap(rate) == rate {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens, b.filled = min(b.tokens, burst(rate)), time.Now()
}

// burst is what may pass at once at a rate, in octets.
func burst(rate int64) float64 { return max(minBurst, float64(rate)*burstTime.Seconds()) }

// Piece returns how many octets are to be taken at once by who can have more at any time;
// 0: any number.
func (b *Bucket) Piece() int {
	rate := b.rate.Load()
	if rate <= 0 {
		return 0
	}
	return max(minPiece, int(float64(rate)*pieceTime.Seconds()))
}

// Room returns how many octets may pass now without waiting, and in a moment; 0, 0: there
// is no limit.
func (b *Bucket) Room(now time.Time) (octets, moment int) {
	rate := b.rate.Load()
	if rate <= 0 {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	tokens := min(b.tokens+now.Sub(b.filled).Seconds()*float64(rate), burst(rate))
	return max(0, int(tokens)), max(momentMin, int(float64(rate)*momentTime.Seconds()))
}

// Take lets n octets pass, and returns how long whoever takes them must wait first.
func (b *Bucket) Take(n int, now time.Time) time.Duration {
	rate := b.rate.Load()
	if rate <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+now.Sub(b.filled).Seconds()*float64(rate), burst(rate))
	b.filled = now
	b.tokens -= float64(n)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / float64(rate) * float64(time.Second))
}

// limits are the buckets of one key.
type limits struct {
	in, out  *Bucket
	sessions int // that use them
}

func (l *limits) set(rate int64) {
	l.in.Set(rate)
	l.out.Set(rate)
}

// A waiter waits for a Bucket, one goroutine at a time, with a timer that is made once.
type waiter struct{ timer *time.Timer }

// wait takes n octets from b and waits as long as that says. It reports false if done
// was closed.
func (w *waiter) wait(b *Bucket, n int, done <-chan struct{}) bool {
	d := b.Take(n, time.Now())
	if d <= 0 {
		return true
	}
	w.timer.Reset(d)
	select {
	case <-w.timer.C:
		return true
	case <-done:
		w.timer.Stop()
		return false
	}
}
