package ppp

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A line is one end of a pair of octet streams in memory. Writes block while the
// other side has depth octets unread.
type line struct {
	in, out         *half
	unsafe          carrier.ByteSet
	detached, ended atomic.Bool // Close leaves the line alone, and only ends this end
}

// again returns the same end for another Link; what is under way is lost.
func (e *line) again() *line {
	e.in.discard()
	return &line{in: e.in, out: e.out}
}

type half struct {
	mu     sync.Mutex
	cond   *sync.Cond
	octets []byte
	depth  int
	most   int // octets a read gets
	closed bool
	lose   func() bool // whether a write is lost; nil: none
	eats   *carrier.ByteSet
	eaten  int
}

// losing says from now on which writes are lost.
func (h *half) losing(lose func() bool) {
	h.mu.Lock()
	h.lose = lose
	h.mu.Unlock()
}

func (h *half) discard() {
	h.mu.Lock()
	h.octets = nil
	h.cond.Broadcast()
	h.mu.Unlock()
}

func newHalf() *half {
	h := &half{depth: 64 << 10, most: 1 << 20}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func newLine() (a, b *line) {
	ab, ba := newHalf(), newHalf()
	return &line{in: ba, out: ab}, &line{in: ab, out: ba}
}

func (e *line) stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: e, Unsafe: e.unsafe} }

func (e *line) Read(p []byte) (int, error) {
	h := e.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.octets) == 0 || e.ended.Load() {
		if h.closed || e.ended.Load() {
			return 0, io.EOF
		}
		h.cond.Wait()
	}
	n := copy(p[:min(len(p), h.most)], h.octets)
	h.octets = h.octets[n:]
	h.cond.Broadcast()
	return n, nil
}

func (e *line) Write(p []byte) (int, error) {
	h := e.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.octets) >= h.depth && !h.closed && !e.ended.Load() {
		h.cond.Wait()
	}
	if h.closed || e.ended.Load() {
		return 0, net.ErrClosed
	}
	if h.lose == nil || !h.lose() {
		for _, b := range p {
			if h.eats != nil && h.eats.Has(b) {
				h.eaten++
			} else {
				h.octets = append(h.octets, b)
			}
		}
	}
	h.cond.Broadcast()
	return len(p), nil
}

func (e *line) Close() error {
	e.ended.Store(true)
	for _, h := range []*half{e.in, e.out} {
		h.mu.Lock()
		h.closed = h.closed || !e.detached.Load()
		h.cond.Broadcast()
		h.mu.Unlock()
	}
	return nil
}

// A diary keeps what a Link tells.
type diary struct {
	t      *testing.T
	name   string
	mu     sync.Mutex
	lines  []string
	events []Event
}

func (d *diary) config(c Config) Config {
	c.Log = func(s string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, s)
		d.t.Logf("%s %s", d.name, s)
	}
	c.Notify = func(e Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.events = append(d.events, e)
	}
	return c
}

func (d *diary) kinds() []EventKind {
	d.mu.Lock()
	defer d.mu.Unlock()
	var k []EventKind
	for _, e := range d.events {
		k = append(k, e.Kind)
	}
	return k
}

func (d *diary) has(part string) bool { return d.count(part) > 0 }

// count returns how many lines have part in them.
func (d *diary) count(part string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.lines {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

// A result is what Open returned.
type result struct {
	link *Link
	err  error
}

// openBoth opens a link from both ends of a line.
func openBoth(t *testing.T, a, b Config) (ra, rb result, da, db *diary) {
	t.Helper()
	ea, eb := newLine()
	return openOn(t, ea, eb, a, b)
}

func openOn(t *testing.T, ea, eb *line, a, b Config) (ra, rb result, da, db *diary) {
	t.Helper()
	da, db = &diary{t: t, name: "a"}, &diary{t: t, name: "b"}
	var both sync.WaitGroup
	both.Go(func() { ra.link, ra.err = Open(context.Background(), ea.stream(), da.config(a)) })
	both.Go(func() { rb.link, rb.err = Open(context.Background(), eb.stream(), db.config(b)) })
	both.Wait()
	return ra, rb, da, db
}

var (
	clientAddr = netip.MustParseAddr("10.0.2.15")
	serverAddr = netip.MustParseAddr("10.0.2.2")
	serverIPv4 = IPv4{Local: serverAddr, Remote: clientAddr, DNS: []netip.Addr{netip.MustParseAddr("10.0.2.3")}}
)

func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, _ := openBoth(t, Config{IPv4: IPv4{AskDNS: true}}, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		got := a.link.Agreed()
		if got.Local[0] != netip.PrefixFrom(clientAddr, 32) || got.Peer[0] != serverAddr || got.DNS[0] != serverIPv4.DNS[0] || got.MTU != 1500 || len(got.DNS) != 1 {
			t.Errorf("the client has %+v", got)
		}
		if len(got.Local) != 2 || got.Local[1].Bits() != 64 || got.Local[1].Addr() != b.link.Agreed().Peer[1] {
			t.Errorf("the client has %+v, the server %+v", got, b.link.Agreed())
		}
		exchange(t, a.link, b.link, packet4(100))
		exchange(t, b.link, a.link, packet6(1500))
		if err := a.link.Terminate("User request"); err != nil {
			t.Error(err)
		}
		<-b.link.Done()
		var e *Error
		if !errors.As(b.link.Err(), &e) || e.Kind != PeerTerminated || !strings.Contains(e.Reason, "User request") {
			t.Errorf("the server ended with %v", b.link.Err())
		}
		if a.link.Err() != net.ErrClosed {
			t.Errorf("the client ended with %v", a.link.Err())
		}
	})
}

func packet4(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	b[0] = 0x45
	return b
}

func packet6(n int) []byte {
	b := packet4(n)
	b[0] = 0x60
	return b
}

// drain reads a Link until it ends, and returns how many packets came.
func drain(l *Link) (packets int) {
	batch := make([]tunnel.Packet, tunnel.BatchSize)
	for {
		n, err := l.ReadPackets(batch)
		if err != nil {
			return packets
		}
		packets += n
	}
}

// failed checks that err is an *Error of a kind, with words in its reason.
func failed(t *testing.T, err error, kind ErrorKind, words string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Reason, words) {
		t.Errorf("got %v, want kind %d with %q", err, kind, words)
	}
}

// exchange sends a packet and checks that it comes.
func exchange(t *testing.T, from, to *Link, data []byte) {
	t.Helper()
	go func() {
		if err := from.WritePackets([]tunnel.Packet{{Data: data}}); err != nil {
			t.Error(err)
		}
	}()
	batch := make([]tunnel.Packet, 4)
	n, err := to.ReadPackets(batch)
	if err != nil || n != 1 || string(batch[0].Data) != string(data) {
		t.Fatalf("got %d packets, %v", n, err)
	}
}

// An hour on an idle link, with keepalives both ways.
func TestHourOfKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{LCP: LCP{EchoInterval: 30 * time.Second, EchoFailure: 4}}
		d := c
		d.IPv4 = serverIPv4
		a, b, da, _ := openBoth(t, c, d)
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		time.Sleep(time.Hour + time.Second)
		if a.link.Err() != nil || b.link.Err() != nil {
			t.Error(a.link.Err(), b.link.Err())
		}
		if asked := da.count("sent [LCP EchoReq"); asked != 121 {
			t.Errorf("%d Echo-Requests in an hour", asked)
		}
		exchange(t, a.link, b.link, packet4(40))
		a.link.Close()
		<-b.link.Done()
	})
}

// A peer that is busy is not asked with EchoAdaptive, and one that is silent is.
func TestEchoAdaptive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{LCP: LCP{EchoInterval: 10 * time.Second, EchoFailure: 3, EchoAdaptive: true}}
		a, b, da, _ := openBoth(t, c, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		go drain(a.link)
		for range 100 {
			time.Sleep(time.Second)
			b.link.WritePackets([]tunnel.Packet{{Data: packet4(40)}})
		}
		before := da.count("sent [LCP EchoReq")
		time.Sleep(100 * time.Second)
		after := da.count("sent [LCP EchoReq")
		if before != 1 || after < 5 {
			t.Errorf("%d Echo-Requests while busy, then %d", before, after-before)
		}
		a.link.Close()
		<-b.link.Done()
	})
}

// Frames get lost, each way, and the link comes up.
func TestOpenWithLoss(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			ea, eb := newLine()
			for way, h := range []*half{ea.out, eb.out} {
				random := rand.New(rand.NewPCG(seed, uint64(way)))
				h.lose = func() bool { return random.IntN(3) == 0 }
			}
			c := Config{LCP: LCP{Timers: Timers{MaxConfigure: 30}}, IPv4: IPv4{Timers: Timers{MaxConfigure: 30}}, IPv6: IPv6{Off: true}}
			d := c
			d.IPv4.Local, d.IPv4.Remote = serverAddr, clientAddr
			c.Auth, d.Auth = authPair(auth.CHAP, auth.PAP)
			c.Auth.MaxTries, d.Auth.MaxTries = 30, 30
			a, b, _, _ := openOn(t, ea, eb, c, d)
			if a.err != nil || b.err != nil {
				t.Fatalf("seed %d: %v, %v", seed, a.err, b.err)
			}
			ea.out.losing(nil)
			eb.out.losing(nil)
			time.Sleep(10 * time.Second) // one of them may not know yet that the other one knows
			exchange(t, a.link, b.link, packet4(40))
			a.link.Close()
			<-b.link.Done()
		})
	}
}

// A slow machine: one octet for each read.
func TestOpenOctetByOctet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		ea.in.most, eb.in.most = 1, 1
		a, b, _, _ := openOn(t, ea, eb, Config{}, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		exchange(t, a.link, b.link, packet4(1500))
		a.link.Close()
		<-b.link.Done()
	})
}

// One end waits for the other; and one that comes late finds a passive one.
func TestSilentAndPassive(t *testing.T) {
	tests := []struct {
		name string
		lcp  LCP
		late time.Duration
	}{
		{"silent", LCP{Silent: true}, 0},
		{"silent for long", LCP{Silent: true}, time.Hour},
		{"passive", LCP{Passive: true}, time.Hour},
		{"settling", LCP{Settle: time.Second}, 0},
		{"settling longer than it takes", LCP{Settle: time.Hour}, time.Minute},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			ea, eb := newLine()
			da := &diary{t: t, name: "a"}
			opened := make(chan result)
			go func() {
				l, err := Open(context.Background(), ea.stream(), da.config(Config{LCP: tt.lcp}))
				opened <- result{l, err}
			}()
			time.Sleep(tt.late)
			eb.in.discard() // who comes late finds nothing old on the line
			b, err := Open(context.Background(), eb.stream(), Config{IPv4: serverIPv4})
			a := <-opened
			if err != nil || a.err != nil {
				t.Fatalf("%s: %v, %v", tt.name, err, a.err)
			}
			if first := da.lines[0]; tt.lcp.Silent && !strings.HasPrefix(first, "rcvd") {
				t.Errorf("%s: it began with %s", tt.name, first)
			}
			b.Close()
			<-a.link.Done()
		})
	}
}

// Two silent ends wait until the caller has enough.
func TestBothSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		c := Config{LCP: LCP{Silent: true}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		go func() {
			l, err := Open(ctx, eb.stream(), c)
			if l != nil || err == nil {
				t.Error("it came up")
			}
		}()
		l, err := Open(ctx, ea.stream(), c)
		if l != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// A peer that starts anew on the same line gets a link, and new addresses; what was
// agreed before holds no more.
func TestPeerStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ea, eb := newLine()
		a, b, da, _ := openOn(t, ea, eb, Config{}, Config{IPv4: serverIPv4})
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		go drain(a.link)
		before := a.link.Agreed()
		lost := func() bool { return true }
		ea.out.losing(lost)
		eb.out.losing(lost) // the old peer's goodbye is not heard
		eb.detached.Store(true)
		b.link.Close()
		ea.out.losing(nil)
		eb.out.losing(nil)
		time.Sleep(10 * time.Second)
		other := serverIPv4
		other.Remote = netip.MustParseAddr("10.0.2.77")
		again, err := Open(context.Background(), eb.again().stream(), Config{IPv4: other})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		after := a.link.Agreed()
		if before.Local[0].Addr() != clientAddr || after.Local[0].Addr() != other.Remote || len(after.Local) != 2 {
			t.Errorf("before %+v, after %+v", before, after)
		}
		want := []EventKind{LinkUp, IPv4Up, IPv6Up, IPv4Down, IPv6Down, LinkDown, LinkUp, IPv4Up, IPv6Up}
		got := da.kinds()
		slices.Sort(got[1:3])
		slices.Sort(got[7:])
		if !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		exchange(t, a.link, again, packet4(100))
		again.Close()
		<-a.link.Done()
	})
}
