package line_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

// Whatever is late, and so asked again, answered twice, and cut up: the first octet
// after the measuring is the first of the data, both ways, and all data come. Each
// half writes as soon as it may.
func TestSwitch(t *testing.T) {
	repeats := 0
	for seed := range uint64(600) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			faults := func() (f linetest.Faults) {
				late := rand.New(rand.NewPCG(seed, r.Uint64()))
				longest := []time.Duration{0, 10 * time.Millisecond, time.Second, 4 * time.Second, 15 * time.Second}[r.IntN(5)]
				if longest > 0 {
					f.Late = func() time.Duration { return time.Duration(late.Int64N(int64(longest))) }
				}
				f.OneOctet = r.IntN(3) == 0
				f.SevenBit = r.IntN(4) == 0
				f.CRNL = r.IntN(4) == 0
				f.LineBuffered = r.IntN(5) == 0
				if r.IntN(4) == 0 {
					f.Rate = 30 << r.IntN(10)
				}
				if r.IntN(4) == 0 {
					f.Banner = noise(seed, r.IntN(5000))
					if f.Rate > 0 { // longer than a minute would be silence
						f.Banner = f.Banner[:min(len(f.Banner), 20*f.Rate)]
					}
				}
				return f
			}
			there, back := faults(), faults()
			near, far := linetest.Pipe(there, back)
			counted := &counter{Stream: near}
			near.ReadWriteCloser = counted

			said := func(text string) []byte { return append([]byte(text), noise(seed, 300)...) }
			talk := func(s carrier.Stream, err error, say, want []byte) error {
				if err != nil {
					return err
				}
				wrote := make(chan error, 1)
				go func() {
					_, err := s.Write(say)
					wrote <- err
				}()
				got := make([]byte, len(want))
				if n, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
					return fmt.Errorf("heard %d octets, %q, %v; want %q", n, got[:n], err, want)
				}
				return <-wrote
			}
			accepted := make(chan error, 1)
			go func() {
				time.Sleep(time.Duration(r.Int64N(int64(5 * time.Second))))
				s, _, err := line.Accept(t.Context(), far, line.Options{})
				accepted <- talk(s, err, said("of the accepting half"), said("=:of the dialling half"))
			}()
			s, m, err := line.Dial(t.Context(), near, line.Options{})
			if counted.writes > 5 {
				repeats++
			}
			if err := talk(s, err, said("=:of the dialling half"), said("of the accepting half")); err != nil {
				t.Errorf("seed %d: Dial's half: %v (%v)", seed, err, m)
				near.Close()
			}
			if err := <-accepted; err != nil {
				t.Errorf("seed %d: Accept's half: %v", seed, err)
			}
			near.Close()
			far.Close()
		})
	}
	if repeats < 100 {
		t.Errorf("in only %d talks something was asked again: too few to prove anything", repeats)
	}
}

// A counter counts and keeps what is written.
type counter struct {
	carrier.Stream
	writes int
	sent   []byte
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes++
	c.sent = append(c.sent, b...)
	return c.Stream.Write(b)
}

// The connection ends at each octet of the measuring, in either direction: nobody
// hangs, and who has not ended says so.
func TestHangUpAnywhere(t *testing.T) {
	for _, unsafe := range []carrier.ByteSet{{}, controls} {
		for _, there := range []bool{true, false} {
			for at := 1; ; at++ {
				ended := false
				synctest.Test(t, func(t *testing.T) {
					cut := linetest.Faults{HangUpAt: at, Delay: time.Millisecond, Rate: 2000}
					whole := linetest.Faults{Delay: time.Millisecond, Rate: 2000}
					if !there {
						cut, whole = whole, cut
					}
					near, far := linetest.Pipe(cut, whole)
					near.Unsafe = unsafe
					d, a, took := measure(t.Context(), near, far, line.Options{}, 0)
					for _, err := range []error{d.err, a.err} {
						var hangUp *carrier.HangUpError
						if err != nil && (!errors.As(err, &hangUp) || hangUp.Layer != "line") {
							t.Errorf("cut at %d: %T %v", at, err, err)
						}
					}
					if took > time.Minute {
						t.Errorf("cut at %d: noticed after %v", at, took)
					}
					if ended = d.err == nil && a.err == nil; ended {
						d.s.Close()
						a.s.Close()
					}
				})
				if ended {
					if at < 400 {
						t.Errorf("the measuring was over after %d octets", at)
					}
					break
				}
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	tests := []struct {
		name   string
		there  linetest.Faults
		unsafe carrier.ByteSet
		says   string
	}{
		{"silence", linetest.Faults{}, carrier.ByteSet{}, "nothing new for 1m0s"},
		{"a terminal", linetest.Faults{}, controls, "nothing new for 1m0s"},
		{"an echo", linetest.Faults{Echo: -1}, carrier.ByteSet{}, "terminal echoes"},
		{"a terminal's echo", linetest.Faults{Echo: -1}, controls, "terminal echoes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := linetest.Pipe(tt.there, linetest.Faults{})
				defer far.Close()
				near.Unsafe = tt.unsafe
				start := time.Now()
				_, _, err := line.Dial(t.Context(), near, line.Options{})
				var silence *carrier.SilenceError
				if !errors.As(err, &silence) || silence.Layer != "line" || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%T %v", err, err)
				}
				if took := time.Since(start); took < time.Minute || took > 70*time.Second {
					t.Errorf("gave up after %v", took)
				}
				_, _, err = line.Accept(t.Context(), far, line.Options{})
				if err == nil {
					t.Error("Accept heard Dial")
				}
			})
		})
	}
}

// With a far half that does not stop the echo, nothing can be carried.
func TestEcho(t *testing.T) {
	for _, there := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			echo, none := linetest.Faults{Echo: -1}, linetest.Faults{}
			if !there {
				echo, none = none, echo
			}
			near, far := linetest.Pipe(echo, none)
			d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
			failed := d.err
			if !there {
				failed = a.err
			}
			var refused *carrier.RefusedError
			if !errors.As(failed, &refused) || !strings.Contains(failed.Error(), "echoes") {
				t.Errorf("%v, %v", d.err, a.err)
			}
			if d.err == nil || a.err == nil {
				t.Errorf("%v, %v", d.err, a.err)
			}
		})
	}
}

// ctx ends both halves at once, with its cause.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := linetest.Pipe(linetest.Faults{Rate: 37}, linetest.Faults{Rate: 37})
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(7*time.Second, func() { cancel(enough) })
		d, a, took := measure(ctx, near, far, line.Options{}, 0)
		if d.err != enough || a.err != enough || took != 7*time.Second {
			t.Errorf("%v, %v, after %v", d.err, a.err, took)
		}
	})
}

// Copies of hello from other talks, before and after the true one, and answers to
// them, and noise: none is believed.
func TestDecoys(t *testing.T) {
	var hellos, answers []byte
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			near, far := linetest.Pipe(linetest.Faults{}, linetest.Faults{})
			asked, answered := &counter{Stream: near}, &counter{Stream: far}
			near.ReadWriteCloser, far.ReadWriteCloser = asked, answered
			d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
			if d.err != nil || a.err != nil {
				t.Fatal(d.err, a.err)
			}
			d.s.Close()
			a.s.Close()
			hellos = append(hellos, asked.sent[:bytes.IndexByte(asked.sent, '=')+1]...)
			answers = append(answers, answered.sent...)
		})
	}
	for _, after := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			there := linetest.Faults{Banner: append(noise(1, 1<<20), hellos...)}
			back := linetest.Faults{Banner: append(noise(2, 1<<20), answers...)}
			if after {
				// They come in the middle of the talk, behind each octet a piece.
				there.Banner, back.Banner = nil, nil
				i := 0
				there.Change = func(b byte) []byte {
					if b == '=' && i < 2 { // hello's end
						i++
						return append([]byte{b}, hellos...)
					}
					return []byte{b}
				}
			}
			near, far := linetest.Pipe(there, back)
			d, a, took := measure(t.Context(), near, far, line.Options{}, 0)
			if d.err != nil || a.err != nil {
				t.Fatal(d.err, a.err)
			}
			if took > 5*time.Second {
				t.Errorf("after=%v: took %v", after, took)
			}
			carry(t, d.s, a.s, 1000)
			d.s.Close()
			a.s.Close()
		})
	}
}

// On a terminal nothing is sent that could end a line or be a command by itself, not
// by a way that takes bit 7 off either, whether somebody answers or not.
func TestTerminal(t *testing.T) {
	var lineFeed carrier.ByteSet
	lineFeed.Add('\n')
	for _, unsafe := range []carrier.ByteSet{controls, lineFeed} {
		for _, back := range []linetest.Faults{{}, {Eat: eaten}, {HangUpAt: 100}, {HangUpAt: 600}, {Echo: 10}} {
			for _, seven := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					near, far := linetest.Pipe(linetest.Faults{SevenBit: seven}, back)
					near.Unsafe = unsafe
					asked, answered := &counter{Stream: near}, &counter{Stream: far}
					near.ReadWriteCloser, far.ReadWriteCloser = asked, answered
					d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
					if d.err == nil {
						d.s.Write(noise(1, 10000))
						d.s.Close()
						a.s.Close()
					}
					for _, sent := range asked.sent {
						if seven {
							sent &= 0x7f
						}
						if controls.Has(sent) {
							t.Fatalf("0x%02x is sent", sent)
						}
					}
				})
			}
		}
	}
}

// Each XOFF is followed by an XON at once.
func TestFlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := linetest.Pipe(linetest.Faults{}, linetest.Faults{})
		asked := &counter{Stream: near}
		near.ReadWriteCloser = asked
		d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
		if d.err != nil || a.err != nil {
			t.Fatal(d.err, a.err)
		}
		if bytes.Count(asked.sent, []byte("\x13")) != 1 || bytes.Count(asked.sent, []byte("\x13\x11")) != 1 {
			t.Error("XOFF is sent alone, or not tried")
		}
		if asked.sent[0] != line.FirstOctet {
			t.Errorf("the first octet is %q", asked.sent[0])
		}
		d.s.Close()
		a.s.Close()
	})
}
