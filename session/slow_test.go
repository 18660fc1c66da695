package session

import (
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A slow is one end of a way with a rate and a delay, which holds as much as is written.
type slow struct {
	out   chan<- parcel
	in    *io.PipeReader
	rate  float64 // octets per second
	delay time.Duration

	mu     sync.Mutex
	free   time.Time // when what was written will have left
	closed bool
}

// waits returns for how long the last octet that was written will wait to leave.
func (s *slow) waits() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.free)
}

// A parcel is a segment of what was written, and when it arrives.
type parcel struct {
	octets []byte
	at     time.Time
}

// newSlow returns the two ends of such a way.
func newSlow(rate float64, delay time.Duration) (near, far carrier.Stream) {
	end := func() (chan parcel, *io.PipeReader) {
		c := make(chan parcel, 1<<16)
		r, w := io.Pipe()
		go func() {
			for p := range c {
				time.Sleep(time.Until(p.at))
				if _, err := w.Write(p.octets); err != nil {
					return
				}
			}
			w.Close()
		}()
		return c, r
	}
	there, here := end()
	back, home := end()
	return carrier.Stream{ReadWriteCloser: &slow{out: there, in: home, rate: rate, delay: delay}},
		carrier.Stream{ReadWriteCloser: &slow{out: back, in: here, rate: rate, delay: delay}}
}

func (s *slow) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *slow) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	if now := time.Now(); s.free.Before(now) {
		s.free = now
	}
	for piece := range slices.Chunk(p, 1448) {
		s.free = s.free.Add(time.Duration(float64(len(piece)) / s.rate * float64(time.Second)))
		s.out <- parcel{slices.Clone(piece), s.free.Add(s.delay)}
	}
	return len(p), nil
}

func (s *slow) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.out)
	}
	return s.in.Close()
}

// TestSlowWay fills a way of 20 Mbit/s and 50 ms with Writes of any length, and little waits
// on it.
func TestSlowWay(t *testing.T) {
	for _, size := range []int{100, 1400, 9000, 64 << 10, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			const rate, lasts = 20e6 / 8, 10 * time.Second
			near, far := newSlow(rate, 25*time.Millisecond)
			client, server := begin(t, near, far, tenMinutes)
			done := reads(client)
			came := make(chan int64, 1)
			go func() {
				n, _ := io.Copy(io.Discard, struct{ io.Reader }{server})
				came <- n
			}()
			block := make([]byte, size)
			var longest time.Duration
			for end := time.Now().Add(lasts); time.Now().Before(end); {
				if _, err := client.Write(block); err != nil {
					t.Fatal(err)
				}
				if time.Since(end) > -lasts/2 {
					longest = max(longest, near.ReadWriteCloser.(*slow).waits())
				}
			}
			client.Close()
			<-done
			n := <-came
			server.Close()
			if used := float64(n) / rate / lasts.Seconds(); used < .95 {
				t.Errorf("Writes of %d octets: %.2f of the rate", size, used)
			}
			if longest > 20*time.Millisecond {
				t.Errorf("Writes of %d octets: up to %v wait on the way", size, longest)
			}
		})
	}
}
