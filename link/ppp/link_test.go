package ppp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A line is one end of a pair of octet streams in memory. Writes block while the
// other side has depth octets unread.
type line struct {
	in, out *half
	unsafe  carrier.ByteSet
}

type half struct {
	mu     sync.Mutex
	cond   *sync.Cond
	octets []byte
	depth  int
	most   int // octets a read gets
	closed bool
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

func (h *half) close() {
	h.mu.Lock()
	h.closed = true
	h.cond.Broadcast()
	h.mu.Unlock()
}

func (e *line) stream() carrier.Stream { return carrier.Stream{ReadWriteCloser: e, Unsafe: e.unsafe} }

func (e *line) Read(p []byte) (int, error) {
	h := e.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.octets) == 0 {
		if h.closed {
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
	for len(h.octets) >= h.depth && !h.closed {
		h.cond.Wait()
	}
	if h.closed {
		return 0, net.ErrClosed
	}
	h.octets = append(h.octets, p...)
	h.cond.Broadcast()
	return len(p), nil
}

func (e *line) Close() error {
	e.in.close()
	e.out.close()
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

func (d *diary) has(part string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.lines {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
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

var _ = time.Second
