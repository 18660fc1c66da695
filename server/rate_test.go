package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestBucket: what passes is the burst at once and the rate from then on.
func TestBucket(t *testing.T) {
	const rate = 4 << 20
	now := time.Unix(0, 0)
	b := NewBucket(rate)
	b.filled = now
	burst := int(burst(rate))
	for _, tt := range []struct {
		after time.Duration // since the last
		take  int
		want  time.Duration
	}{
		{0, burst, 0},
		{0, rate / 100, 10 * time.Millisecond},
		{0, rate / 100, 20 * time.Millisecond}, // behind the one before
		{20 * time.Millisecond, rate / 100, 10 * time.Millisecond},
		{time.Hour, burst, 0}, // an hour of silence is no more than a burst
		{0, rate / 100, 10 * time.Millisecond},
	} {
		now = now.Add(tt.after)
		if got := b.Take(tt.take, now); got.Round(time.Microsecond) != tt.want {
			t.Errorf("after %v, %d octets wait %v, want %v", tt.after, tt.take, got, tt.want)
		}
	}
	b.Set(0)
	if got := b.Take(1<<30, now); got != 0 || b.Piece() != 0 {
		t.Errorf("without a limit they wait %v", got)
	}
}

// TestMeter: both ways are held to the rate, all sessions of a client together, and a
// change counts at once.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		s := New(Config{})
		a := hold(t, s, Client{Key: "A", Rate: rate})
		b := hold(t, s, Client{Key: "A", Rate: rate})
		write := func(m io.ReadWriteCloser, n int) time.Duration {
			began := time.Now()
			for range n / 4096 {
				if _, err := m.Write(make([]byte, 4096)); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		first, second := a.session.Meter(sink{}), b.session.Meter(sink{})
		if took := write(first, 4*rate); took < 3500*time.Millisecond || took > 4*time.Second {
			t.Errorf("4 s worth of octets take %v", took)
		}
		if took := write(second, rate); took < 900*time.Millisecond {
			t.Errorf("the client's other session has its own rate: %v", took)
		}
		s.SetRate("A", 8*rate)
		if took := write(first, 8*rate); took > 1100*time.Millisecond {
			t.Errorf("at 8 times the rate, %v", took)
		}
		s.SetRate("A", 0)
		if took := write(first, 8*rate); took != 0 {
			t.Errorf("without a limit, %v", took)
		}
		s.SetRate("A", rate)
		began := time.Now()
		if n, err := io.CopyN(io.Discard, a.session.Meter(sink{}), 2*rate); err != nil || n != 2*rate {
			t.Fatal(n, err)
		}
		if took := time.Since(began); took < 1800*time.Millisecond || took > 2*time.Second {
			t.Errorf("reading 2 s worth of octets takes %v", took)
		}
		for _, h := range []*holding{a, b} {
			h.tunnel.stop <- nil
			<-h.ended
		}
	})
}

// TestMeterClose: Close wakes who waits for the rate.
func TestMeterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		a := hold(t, s, Client{Key: "A", Rate: 1000})
		m := a.session.Meter(sink{})
		done := make(chan error)
		go func() {
			_, err := m.Write(make([]byte, 10<<20))
			done <- err
		}()
		synctest.Wait()
		m.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a Write that waits returns %v", err)
		}
		a.tunnel.stop <- nil
		<-a.ended
	})
}

// TestMeterBuffers: buffers go on as they are to who takes them so, gathered to who does
// not.
func TestMeterBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		a := hold(t, s, Client{Key: "A"})
		for _, below := range []interface {
			io.ReadWriteCloser
			String() string
		}{&gathers{}, &takesBuffers{}} {
			m := a.session.Meter(below).(interface{ WriteBuffers(net.Buffers) error })
			if err := m.WriteBuffers(net.Buffers{[]byte("one "), []byte("two")}); err != nil || below.String() != "one two" {
				t.Errorf("%T: %q, %v", below, below, err)
			}
		}
		a.tunnel.stop <- nil
		<-a.ended
	})
}

type gathers struct{ bytes.Buffer }

func (*gathers) Close() error { return nil }

type takesBuffers struct{ gathers }

func (b *takesBuffers) Write([]byte) (int, error) { return 0, errors.New("one by one") }

func (b *takesBuffers) WriteBuffers(list net.Buffers) error {
	_, err := list.WriteTo(&b.Buffer)
	return err
}

// sink takes everything, and gives without end.
type sink struct{}

func (sink) Read(b []byte) (int, error)  { return len(b), nil }
func (sink) Write(b []byte) (int, error) { return len(b), nil }
func (sink) Close() error                { return nil }

// TestMeterAllocates: what passes is not paid for in memory.
func TestMeterAllocates(t *testing.T) {
	s := New(Config{})
	ended := make(chan error)
	var m io.ReadWriteCloser
	f := newFake()
	opened := make(chan struct{})
	go func() {
		ended <- s.Hold(context.Background(), Client{Key: "A", Rate: 1 << 40}, nobody(), func(_ context.Context, session *Session) (Tunnel, error) {
			m = session.Meter(sink{})
			close(opened)
			return f, nil
		})
	}()
	<-opened
	b := make([]byte, 1500)
	if n := testing.AllocsPerRun(1000, func() { m.Write(b); m.Read(b) }); n != 0 {
		t.Errorf("%v allocations for a write and a read", n)
	}
	f.stop <- nil
	<-ended
}

// TestMeterRoom: what there is room for is what the rate lets pass, or less if what is
// below says so.
func TestMeterRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1 << 20
		s := New(Config{})
		a := hold(t, s, Client{Key: "A", Rate: rate})
		room := func(below io.ReadWriteCloser) [2]int {
			octets, burst := a.session.Meter(below).(interface{ Room() (int, int) }).Room()
			return [2]int{octets, burst}
		}
		const moment = rate / 500
		for _, c := range []struct {
			about string
			write int
			after time.Duration
			below io.ReadWriteCloser
			want  [2]int
		}{
			{"a full bucket", 0, 0, sink{}, [2]int{minBurst, moment}},
			{"what is below takes less", 0, 0, narrow{sink{}, 1000, 600}, [2]int{1000, 600}},
			{"half of it is gone", minBurst / 2, 0, sink{}, [2]int{minBurst / 2, moment}},
			{"all of it is gone", minBurst / 2, 0, sink{}, [2]int{0, moment}},
			{"and fills", 0, 10 * time.Millisecond, narrow{sink{}, 1 << 30, 1 << 30}, [2]int{rate / 100, moment}},
		} {
			a.session.Meter(sink{}).Write(make([]byte, c.write))
			time.Sleep(c.after)
			if got := room(c.below); got != c.want {
				t.Errorf("%s: %v, want %v", c.about, got, c.want)
			}
		}
		s.SetRate("A", 0)
		if got := room(narrow{sink{}, 1000, 600}); got != [2]int{1000, 600} {
			t.Errorf("without a limit: %v", got)
		}
		if got := room(sink{}); got != [2]int{math.MaxInt, math.MaxInt} {
			t.Errorf("without any: %v", got)
		}
		a.tunnel.stop <- nil
		<-a.ended
	})
}

// narrow has a Room of its own.
type narrow struct {
	sink
	octets, burst int
}

func (n narrow) Room() (int, int) { return n.octets, n.burst }
