package telnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// TestOneMeaning writes while the offer of BINARY is not answered: no octet that goes
// out means one thing to a server that agrees and another to one that does not.
func TestOneMeaning(t *testing.T) {
	const offer, withdrawn = offers, "fffc00"
	for _, tt := range []struct {
		name   string
		before string // what the server says before the write
		write  string
		client string
		after  string // and after it
		reply  string
		binary bool
		again  string // "\r" once more
	}{
		{"no CR: as it is", "", "'ls' 00 0a ff", offer + "'ls' 00 0a ffff", "fffd00", "", true, "0d"},
		{"no CR, refused later", "", "'ls' 0a", offer + "'ls' 0a", "fffe00", "", false, "0d00"},
		{"CR before the answer", "", "'user' 0d", offer + withdrawn + "'user' 0d00", "", "", false, "0d00"},
		{"then it is agreed to, and to the end", "", "'user' 0d", offer + withdrawn + "'user' 0d00", "fffd00 fffe00", "", false, "0d00"},
		{"then it is refused", "", "'user' 0d", offer + withdrawn + "'user' 0d00", "fffe00", "", false, "0d00"},
		{"then the server asks for it itself", "", "'user' 0d", offer + withdrawn + "'user' 0d00", "fffe00 fffd00", "fffb00", true, "0d"},
		{"CR after a yes", "fffd00", "'user' 0d", "'user' 0d", "", "", true, "0d"},
		{"CR after a no", "fffe00", "'user' 0d", "'user' 0d00", "", "", false, "0d00"},
		{"ended afterwards", "fffd00", "0d", "0d", "fffe00", "fffc00", false, "0d00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := newPuppet(t)
				c := Open(s, Options{})
				if tt.before != "" {
					p.read(c)
					p.hears(offers)
					p.say(tt.before)
					p.hears("")
				}
				data := octets(tt.write)
				if n, err := c.Write(data); n != len(data) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
				p.hears(tt.client)
				if tt.before == "" {
					p.read(c)
				}
				p.say(tt.after)
				p.hears(tt.reply)
				if got := c.Modes().BinaryOut; got != tt.binary {
					t.Errorf("BINARY out: %v", got)
				}
				if err := c.WriteBuffers(net.Buffers{{cr}}); err != nil {
					t.Fatal(err)
				}
				p.hears(tt.again)
			})
		})
	}
}

// TestEnds has both ends of ours, of which each offers what it likes at once, on a
// pipe without any buffer.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := ends()
		client, server := Open(near, Options{}), newServer(far)
		server.offer([]byte{optEcho, optSGA, optBinary}, []byte{optTType, optNAWS, optSGA, optBinary, optEcho, 39})
		defer server.Close()
		defer client.Close()
		var settled sync.WaitGroup
		for _, c := range []*Conn{client, server} {
			settled.Go(func() {
				if err := c.Settle(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		settled.Wait()
		want := Modes{BinaryIn: true, BinaryOut: true, SGA: true, Echo: true}
		if got := client.Modes(); got != want {
			t.Errorf("client: %+v", got)
		}
		want.Echo = false
		if got := server.Modes(); got != want {
			t.Errorf("server: %+v", got)
		}
		if u := client.Stream().Unsafe; !u.Empty() {
			t.Errorf("unsafe: %v", u)
		}
	})
}

// TestUnsafe: BINARY one way is not enough, and what is below counts too.
func TestUnsafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		s.Unsafe.Add(0x11)
		c := Open(s, Options{})
		p.read(c)
		for _, tt := range []struct {
			server string
			want   []byte
		}{
			{"", []byte{0, '\n', '\r', 0x11}},
			{"fffd00", []byte{0, '\n', '\r', 0x11}},
			{"fffb00", []byte{0x11}},
			{"fffc00", []byte{0, '\n', '\r', 0x11}},
		} {
			p.say(tt.server)
			synctest.Wait()
			var want carrier.ByteSet
			for _, b := range tt.want {
				want.Add(b)
			}
			if got := c.Stream().Unsafe; got != want {
				t.Errorf("after %q: unsafe %v, want %v", tt.server, got, want)
			}
		}
	})
}

// TestSettle has the ends of the wait.
func TestSettle(t *testing.T) {
	for _, tt := range []struct {
		name  string
		do    func(p *puppet, cancel func())
		takes time.Duration
		err   error
		kept  int
	}{
		{"answered after 3 s", func(p *puppet, _ func()) {
			p.say("'welcome' fffd18 fffd03 fffd00")
			time.Sleep(3 * time.Second)
			p.say("fffc03 fffb00 'login: '")
		}, 3 * time.Second, nil, 14},
		{"busybox: half of it never", func(p *puppet, _ func()) {
			p.say("fffd01 fffd1f fffb01 fffb03 'login: '")
		}, 5 * time.Second, nil, 7},
		{"silence", func(*puppet, func()) {}, 5 * time.Second, nil, 0},
		{"cancelled", func(_ *puppet, cancel func()) { time.Sleep(time.Second); cancel() }, time.Second, context.Canceled, 0},
		{"hung up on", func(p *puppet, _ func()) {
			p.say("'busy'")
			time.Sleep(time.Second)
			p.s.Close()
		}, time.Second, io.EOF, 4},
		{"a long banner", func(p *puppet, _ func()) {
			p.s.Write(make([]byte, 1000))
			p.s.Write(make([]byte, 2*maxKept))
		}, 0, nil, maxKept},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := newPuppet(t)
				c := Open(s, Options{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ctx, stop := context.WithTimeout(ctx, 5*time.Second)
				defer stop()
				go tt.do(p, cancel)
				start := time.Now()
				if err := c.Settle(ctx); !errors.Is(err, tt.err) {
					t.Errorf("Settle: %v, want %v", err, tt.err)
				}
				if took := time.Since(start); took != tt.takes {
					t.Errorf("it took %v, want %v", took, tt.takes)
				}
				if len(c.kept) != tt.kept {
					t.Errorf("it kept %d octets, want %d", len(c.kept), tt.kept)
				}
				c.Close()
			})
		})
	}
}

// TestAfterSettle: what the read under way brings, once Settle has ended, is Read's.
func TestAfterSettle(t *testing.T) {
	for _, how := range []string{"Read", "Settle", "Detach"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := newPuppet(t)
				c := Open(s, Options{})
				defer s.Close()
				p.sayToSettling("'one '", c)
				go func() {
					time.Sleep(time.Second)
					p.say("'two ' fffd00")
					p.say("'three'")
					p.s.Close()
				}()
				var from io.ReadCloser = c
				want := "one two three"
				switch how {
				case "Settle":
					if err := c.Settle(t.Context()); err != io.EOF {
						t.Error(err)
					}
					if !c.Modes().BinaryOut {
						t.Error("a late answer was lost")
					}
				case "Detach":
					from, want = c.Detach(), "one two \xff\xfd\x00three"
				}
				if got, err := io.ReadAll(from); string(got) != want || err != nil {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
				if err := from.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// sayToSettling says what while c settles, which then still has a read under way.
func (p *puppet) sayToSettling(what string, c *Conn) {
	go p.say(what)
	settle(p.t, c, 100*time.Millisecond)
}

func settle(t *testing.T, c *Conn, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := c.Settle(ctx); err != nil {
		t.Error(err)
	}
}

// line reads to the end of a line, octet by octet, as a dialogue does.
func line(t *testing.T, c io.Reader) string {
	t.Helper()
	var got []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte{'\n'}) {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, b[:n]...)
	}
	return string(got)
}

// TestReset goes through a proxy that speaks telnet of its own, to a server that
// does: what either says comes in one piece, and is obeyed on its own.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		c := Open(s, Options{Passive: true})
		go p.say("fffb01 fffb00 fffd27 'connected' 0d0a 'log' 0d00 fffd27 fffb01 'in' 0a")
		if got := line(t, c); got != "connected\r\n" {
			t.Fatalf("%q", got)
		}
		c.Reset(false)
		if m := c.Modes(); m != (Modes{}) {
			t.Errorf("after Reset: %+v", m)
		}
		if got := line(t, c); got != "log\rin\n" {
			t.Fatalf("%q", got)
		}
		p.hears("fffd01 fffd00 fffc27" + offers + "fffc27 fffd01")
		c.Close()
	})
}

// TestDetach takes telnet off behind a proxy, to something that knows none.
func TestDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		c := Open(s, Options{Passive: true})
		go p.say("fffb01 'connected' 0d0a fffb01 'SSH-2.0' ff")
		if got := line(t, c); got != "connected\r\n" {
			t.Fatalf("%q", got)
		}
		raw := c.Detach()
		p.hears("fffd01")
		want := octets("fffb01 'SSH-2.0' ff")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(raw, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("% x, %v; want % x", got, err, want)
		}
		if _, err := raw.Write([]byte{cr, iac}); err != nil {
			t.Error(err)
		}
		p.hears("0dff")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Write([]byte{1}); !carrier.IsClosed(err) {
			t.Errorf("Write to what is detached: %v", err)
		}
		if _, err := raw.Write([]byte("still open")); err != nil {
			t.Error(err)
		}
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnswersDoNotBlock: a server that does not read until we have read all that it
// has to say gets its answers afterwards.
func TestAnswersDoNotBlock(t *testing.T) {
	near, far := ends()
	c := Open(near, Options{})
	defer c.Close()
	say := octets("fffb01 fffd27" + strings.Repeat("'text'", 10_000) + "0a")
	go far.Write(say)
	if got := line(t, c); len(got) != 40_001 {
		t.Fatalf("%d octets", len(got))
	}
	want := octets(offers + "fffd01 fffc27")
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("% x, %v; want % x", got, err, want)
	}
}

// TestBreak: a break is no octet, and keeps its place.
func TestBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		c := Open(s, Options{Passive: true})
		c.Write([]byte("a"))
		if err := c.Stream().Break(); err != nil {
			t.Error(err)
		}
		c.Write([]byte("b"))
		p.hears("'a' fff3 'b'")
		c.Close()
		if err := c.Break(); !carrier.IsClosed(err) {
			t.Errorf("Break after Close: %v", err)
		}
	})
}

// TestWriteErrors: Write says how many octets it got rid of.
func TestWriteErrors(t *testing.T) {
	near, far := ends()
	c := Open(near, Options{Passive: true})
	data := bytes.Repeat([]byte{iac}, 3*writeBuffer)
	go func() {
		io.CopyN(io.Discard, far, 3*writeBuffer)
		far.Close()
	}()
	if n, err := c.Write(data); n != 3*writeBuffer/2 || err == nil {
		t.Errorf("Write: %d, %v; want %d and an error", n, err, 3*writeBuffer/2)
	}
	c.Close()
}

// TestNoAllocations: a busy Conn makes no garbage.
func TestNoAllocations(t *testing.T) {
	c := Open(carrier.Stream{ReadWriteCloser: &wheel{block: []byte("abc\xff\xff\r\x00def")}}, Options{Passive: true})
	plain, escaped := []byte("abc"), []byte("abc\xff\r")
	small, big := make([]byte, 100), make([]byte, 64<<10)
	for name, f := range map[string]func(){
		"Read":           func() { c.Read(small) },
		"Read, large":    func() { c.Read(big) },
		"Write":          func() { c.Write(plain) },
		"Write, escaped": func() { c.Write(escaped) },
	} {
		if n := testing.AllocsPerRun(100, f); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A wheel is a Stream that has the same octets for ever, and takes all.
type wheel struct{ block []byte }

func (w *wheel) Read(b []byte) (int, error)       { return copy(b, w.block), nil }
func (w *wheel) Write(b []byte) (int, error)      { return len(b), nil }
func (w *wheel) WriteBuffers(b net.Buffers) error { return nil }
func (w *wheel) Close() error                     { return nil }

// BenchmarkConn is one Read or Write of 64 KiB; Stream is what the way below costs.
func BenchmarkConn(b *testing.B) {
	block := bytes.Repeat([]byte("sixteen octets. "), 4<<10)
	w := &wheel{block: block}
	c := Open(carrier.Stream{ReadWriteCloser: w}, Options{Passive: true})
	buf := make([]byte, len(block))
	for _, bench := range []struct {
		name string
		f    func()
	}{
		{"Stream.Read", func() { w.Read(buf) }},
		{"Read", func() { c.Read(buf) }},
		{"Write", func() { c.Write(block) }},
		{"WriteBuffers", func() { c.WriteBuffers(net.Buffers{block[:30_000], block[30_000:]}) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				bench.f()
			}
		})
	}
}
