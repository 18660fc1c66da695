package line_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

func set(octets ...byte) (s carrier.ByteSet) {
	for _, b := range octets {
		s.Add(b)
	}
	return s
}

func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// A half is what Dial or Accept returned.
type half struct {
	s   carrier.Stream
	m   line.Measured
	err error
}

// measure runs Dial and Accept on the two ends, the second late.
func measure(ctx context.Context, near, far carrier.Stream, o line.Options, late time.Duration) (d, a half, took time.Duration) {
	start := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(late)
		a.s, a.m, a.err = line.Accept(ctx, far, line.Options{})
	}()
	d.s, d.m, d.err = line.Dial(ctx, near, o)
	took = time.Since(start)
	<-done
	return d, a, took
}

// carry sends n octets each way at once, all values first, in writes of many sizes,
// and compares.
func carry(t *testing.T, a, b carrier.Stream, n int) {
	t.Helper()
	var all []byte
	for v := range 256 {
		all = append(all, byte(v))
	}
	hardest := []byte("\r\x00\r\n\n\xff\xff\xf4\xff\xfd\x06\x13\x11\x1d~.=:A=\x00")
	message := func(seed uint64) []byte {
		return bytes.Join([][]byte{all, hardest, noise(seed, n)}, nil)
	}
	errs := make(chan error, 4)
	send := func(s carrier.Stream, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		for rest := message(seed); len(rest) > 0; {
			k := min(1+r.IntN(1<<r.IntN(16)), len(rest))
			if n, err := s.Write(rest[:k]); err != nil || n != k {
				errs <- fmt.Errorf("Write: %d of %d, %v", n, k, err)
				return
			}
			rest = rest[k:]
		}
		errs <- nil
	}
	receive := func(s carrier.Stream, seed uint64) {
		want := message(seed)
		got := make([]byte, len(want))
		k, err := io.ReadFull(s, got)
		if err == nil && sha256.Sum256(got) != sha256.Sum256(want) {
			err = fmt.Errorf("%d octets came changed", k)
		}
		errs <- err
	}
	go send(a, 1)
	go send(b, 2)
	go receive(a, 2)
	go receive(b, 1)
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

var eaten = set(0x00, 0x03, 0x04, 0x05, 0x0a, 0x0d, 0x11, 0x13, 0x15, 0x17, 0x1a, 0x1c, 0x7f, 0xff)

var controls = func() (s carrier.ByteSet) {
	for v := range 0x20 {
		s.Add(byte(v))
	}
	s.Add(0x7f)
	return s
}()

func TestWays(t *testing.T) {
	latin1 := func(b byte) []byte { return []byte(string(rune(b))) }
	everything := linetest.Faults{SevenBit: true, Eat: eaten, CRNL: true}
	drops := everything
	drops.OneOctet = true
	tests := []struct {
		name    string
		there   linetest.Faults
		back    linetest.Faults
		unsafe  carrier.ByteSet
		late    time.Duration
		out, in line.Coding
		least   float64 // efficiency of the worse direction
		within  time.Duration
		data    int // octets carried each way; 0: 256 KiB
	}{
		{name: "clean", out: line.Clean, in: line.Clean, least: 1},
		{name: "one octet at a time", there: linetest.Faults{OneOctet: true}, back: linetest.Faults{OneOctet: true}, out: line.Clean, in: line.Clean, least: 1},
		{name: "seven bits", there: linetest.Faults{SevenBit: true}, back: linetest.Faults{SevenBit: true}, out: line.Armour, in: line.Armour, least: .7},
		{name: "eats some", there: linetest.Faults{Eat: eaten}, back: linetest.Faults{Eat: eaten}, out: line.Escape, in: line.Escape, least: .9},
		{name: "eats some one way", there: linetest.Faults{Eat: eaten}, out: line.Escape, in: line.Clean, least: .9},
		{name: "maps CR and LF", there: linetest.Faults{CRNL: true}, back: linetest.Faults{CRNL: true}, out: line.Escape, in: line.Escape, least: .95},
		{name: "NVT", there: linetest.Faults{NVT: true}, back: linetest.Faults{NVT: true}, out: line.Escape, in: line.Escape, least: .95},
		{name: "Latin-1 to UTF-8", there: linetest.Faults{Change: latin1}, out: line.Armour, in: line.Clean, least: .7},
		{name: "all at once", there: everything, back: everything, out: line.Armour, in: line.Armour, least: .7},
		{name: "all at once in drops", there: drops, back: drops, out: line.Armour, in: line.Armour, least: .7},
		{name: "line-buffered", there: linetest.Faults{LineBuffered: true}, out: line.Escape, in: line.Clean, least: .8},
		{name: "line-buffered both ways", there: linetest.Faults{LineBuffered: true}, back: linetest.Faults{LineBuffered: true}, out: line.Escape, in: line.Escape, least: .8},
		{name: "lines of 255", there: linetest.Faults{LineBuffered: true, MaxLine: 255}, back: linetest.Faults{MaxLine: 255}, out: line.Escape, in: line.Escape, least: .8},
		{name: "lines of 1024", there: linetest.Faults{MaxLine: 1024}, back: linetest.Faults{MaxLine: 1024}, out: line.Escape, in: line.Escape, least: .8},
		{name: "lines of 4095 and 7 bits", there: linetest.Faults{MaxLine: 4095, LineBuffered: true, SevenBit: true}, out: line.Armour, in: line.Clean, least: .7},
		{name: "wraps at 80", there: linetest.Faults{InsertEvery: 80}, back: linetest.Faults{InsertEvery: 80}, out: line.Escape, in: line.Escape, least: .8},
		{name: "2 s late", late: 2 * time.Second, out: line.Clean, in: line.Clean, least: 1, within: 5 * time.Second},
		{name: "30 s late", late: 30 * time.Second, out: line.Clean, in: line.Clean, least: 1, within: 35 * time.Second},
		{name: "30 s late, lines", late: 30 * time.Second, there: linetest.Faults{LineBuffered: true}, out: line.Escape, in: line.Clean, least: .8, within: 35 * time.Second},
		{name: "echo before the far half is there", late: 3 * time.Second, there: linetest.Faults{Echo: 60}, out: line.Clean, in: line.Clean, least: 1},
		{name: "a terminal", unsafe: controls, out: line.Escape, in: line.Escape, least: .85},
		{name: "a terminal of 7 bits", unsafe: controls, there: linetest.Faults{SevenBit: true}, back: linetest.Faults{SevenBit: true}, out: line.Armour, in: line.Armour, least: .7},
		{name: "300 bit/s", there: linetest.Faults{Rate: 37}, back: linetest.Faults{Rate: 37}, out: line.Clean, in: line.Clean, least: 1, within: time.Minute, data: 100},
		{name: "300 bit/s, all at once", there: with(everything, 37), back: with(everything, 37), out: line.Armour, in: line.Armour, least: .7, within: time.Minute, data: 100},
		{name: "300 bit/s, a terminal", unsafe: controls, there: linetest.Faults{Rate: 37}, back: linetest.Faults{Rate: 37}, out: line.Escape, in: line.Escape, least: .85, within: time.Minute, data: 100},
		{name: "75 bit/s", there: linetest.Faults{Rate: 9}, back: linetest.Faults{Rate: 9}, out: line.Escape, in: line.Escape, least: .95, within: 20 * time.Minute, data: 100},
		{name: "9600 bit/s", there: linetest.Faults{Rate: 960}, back: linetest.Faults{Rate: 960}, out: line.Clean, in: line.Clean, least: 1, data: 1000},
		{name: "600 ms there and back", there: linetest.Faults{Delay: 300 * time.Millisecond}, back: linetest.Faults{Delay: 300 * time.Millisecond}, out: line.Clean, in: line.Clean, least: 1},
		{name: "4 s there and back", there: linetest.Faults{Delay: 2 * time.Second}, back: linetest.Faults{Delay: 2 * time.Second}, out: line.Clean, in: line.Clean, least: 1, within: 30 * time.Second},
		{name: "noise before", there: linetest.Faults{Banner: noise(3, 1<<20)}, back: linetest.Faults{Banner: noise(4, 1<<20)}, out: line.Clean, in: line.Clean, least: 1},
		{name: "loses an octet of hello", there: linetest.Faults{Lose: 10}, out: line.Clean, in: line.Clean, least: 1},
		{name: "loses an octet of a pattern's tail", there: linetest.Faults{Lose: 540}, back: linetest.Faults{Lose: 20}, out: line.Escape, in: line.Clean, least: .9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := linetest.Pipe(tt.there, tt.back)
				near.Unsafe = tt.unsafe
				d, a, took := measure(t.Context(), near, far, line.Options{}, tt.late)
				if d.err != nil || a.err != nil {
					t.Fatalf("Dial: %v; Accept: %v", d.err, a.err)
				}
				t.Logf("%v: out: %v; in: %v; %.0f octets/s, %v", took, d.m.Out, d.m.In, d.m.Rate, d.m.RoundTrip)
				if d.m.Out.Coding != tt.out || d.m.In.Coding != tt.in {
					t.Errorf("out %v, in %v; want %v, %v", d.m.Out.Coding, d.m.In.Coding, tt.out, tt.in)
				}
				if a.m.In.String() != d.m.Out.String() || a.m.Out.String() != d.m.In.String() {
					t.Errorf("Accept says %v, %v", a.m.In, a.m.Out)
				}
				if worst := min(d.m.Out.Efficiency, d.m.In.Efficiency); worst < tt.least {
					t.Errorf("efficiency %.3f, want %.3f", worst, tt.least)
				}
				within := tt.within
				if within == 0 {
					within = 5 * time.Second
				}
				if took > within {
					t.Errorf("took %v, want %v", took, within)
				}
				if !d.s.Unsafe.Empty() || !a.s.Unsafe.Empty() {
					t.Error("the Stream says that octets are unsafe")
				}
				n := tt.data
				if n == 0 {
					n = 256 << 10
				}
				carry(t, d.s, a.s, n)
				d.s.Close()
				a.s.Close()
			})
		})
	}
}

// TestNoisyWay has ways that change an octet now and then: somebody answers, most of it
// is not whole, and measuring ends all the same.
func TestNoisyWay(t *testing.T) {
	failed := 0
	for every := 20; every < 2000; every += every / 7 {
		synctest.Test(t, func(t *testing.T) {
			noisy := func(seed uint64) linetest.Faults {
				r := rand.New(rand.NewPCG(seed, uint64(every)))
				return linetest.Faults{Change: func(b byte) []byte {
					if r.IntN(every) == 0 {
						b ^= 1
					}
					return []byte{b}
				}}
			}
			near, far := linetest.Pipe(noisy(1), noisy(2))
			d, _, took := measure(t.Context(), near, far, line.Options{}, 0)
			if d.err != nil {
				failed++
			}
			if took > 4*time.Minute {
				t.Errorf("one octet in %d: %v, %v", every, took, d.err)
			}

			if d.err == nil {
				d.s.Close()
			}
		})
	}
	if failed == 0 {
		t.Error("it never failed")
	}
}

func with(f linetest.Faults, rate int) linetest.Faults {
	f.Rate = rate
	return f
}
