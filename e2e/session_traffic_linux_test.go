package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// soak is set by `make soak`: the numbers of the tests of sessions are those of the
// promise then, and not those of a few minutes.
var soak = os.Getenv("BODKIN_SOAK") != ""

// soaking is one of two numbers.
func soaking[T any](usual, long T) T {
	if soak {
		return long
	}
	return usual
}

// Where the web host takes what these tests send.
const (
	transferPort = 8100
	pulsePort    = 8101
	countPort    = 8102
)

// transferPatience is how long a transfer may stand still beside the outage that a test
// makes: an outage of a minute has TCP wait as long again before it tries.
const transferPatience = 2 * time.Minute

// wholeWithin is how long the last octets of a transfer may take once all is well again:
// what lies in buffers on the way has to come, but nobody waits for a timer that the
// outage has doubled to a minute and more.
const wholeWithin = 30 * time.Second

// transferBuffer is what the kernel holds of a transfer at either end.
const transferBuffer = 128 << 10

// A transfers is a number of TCP connections through a tunnel, each with octets in one
// direction until stop.
type transfers struct {
	t       *testing.T
	stop    chan struct{}
	running sync.WaitGroup
	passed  atomic.Int64 // octets that arrived

	mu   sync.Mutex
	ends map[byte]*transfer
}

// A transfer is one of them, as its two ends see it.
type transfer struct{ sent, came digest }

// A digest is what one end sent or got.
type digest struct {
	octets int64
	sum    []byte
	err    error
	ended  time.Time
}

// transfers begins n of them between the laptop and the web host, by turns up and down.
func (w *world) transfers(n int, patience time.Duration) *transfers {
	w.t.Helper()
	x := &transfers{t: w.t, stop: make(chan struct{}), ends: make(map[byte]*transfer)}
	server, err := w.Internet.Listen("tcp", fmt.Sprintf(":%d", transferPort))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		server.Close()
		x.finish()
	})
	for i := range n {
		f := families[i/2%2]
		c, err := w.Laptop.Dial(within(w.t, 20*time.Second), "tcp", netip.AddrPortFrom(f.web, transferPort).String())
		if err != nil {
			w.t.Fatalf("transfer %d: %v", i, err)
		}
		far, err := server.Accept()
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			w.t.Fatalf("transfer %d: %v", i, err)
		}
		name := make([]byte, 1)
		if _, err := io.ReadFull(far, name); err != nil || name[0] != byte(i) {
			w.t.Fatalf("transfer %d: it is called %d: %v", i, name, err)
		}
		from, to := c.(*net.TCPConn), far.(*net.TCPConn)
		for _, end := range []*net.TCPConn{from, to} { // or it takes long until all is there in the end
			end.SetReadBuffer(transferBuffer)
			end.SetWriteBuffer(transferBuffer)
			end.SetKeepAlive(false) // Go's gives up after 150 s without an answer, and says so to itself
		}
		if i%2 == 1 {
			from, to = to, from
		}
		t := new(transfer)
		x.ends[byte(i)] = t
		x.running.Go(func() { t.sent = x.send(from, uint64(i), patience) })
		x.running.Go(func() {
			t.came = x.receive(to, uint64(i), patience)
			t.came.ended = time.Now()
		})
	}
	return x
}

// send sends until stop, and then the end.
func (x *transfers) send(c *net.TCPConn, seed uint64, patience time.Duration) (d digest) {
	defer c.Close()
	hash, source, buf := sha256.New(), lab.Bytes(math.MaxInt64, seed), make([]byte, 32<<10)
	for {
		select {
		case <-x.stop:
			d.sum, d.err = hash.Sum(nil), c.CloseWrite()
			c.SetReadDeadline(time.Now().Add(patience))
			if _, err := c.Read(buf); err != io.EOF { // the other end has it all
				d.err = errors.Join(d.err, fmt.Errorf("waiting for the end: %w", err))
			}
			return d
		default:
		}
		io.ReadFull(source, buf)
		c.SetWriteDeadline(time.Now().Add(patience))
		if _, d.err = c.Write(buf); d.err != nil {
			return d
		}
		hash.Write(buf)
		d.octets += int64(len(buf))
	}
}

// receive gets all, and compares each octet at its place.
func (x *transfers) receive(c *net.TCPConn, seed uint64, patience time.Duration) (d digest) {
	defer c.Close()
	hash, source := sha256.New(), lab.Bytes(math.MaxInt64, seed)
	buf, want := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		c.SetReadDeadline(time.Now().Add(patience))
		n, err := c.Read(buf)
		io.ReadFull(source, want[:n])
		if !bytes.Equal(buf[:n], want[:n]) {
			d.err = fmt.Errorf("other octets than were sent, from about octet %d on", d.octets)
			return d
		}
		hash.Write(buf[:n])
		d.octets += int64(n)
		x.passed.Add(int64(n))
		if err != nil {
			d.sum = hash.Sum(nil)
			if err != io.EOF {
				d.err = err
			}
			return d
		}
	}
}

// finish ends the transfers, and waits for them.
func (x *transfers) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case <-x.stop:
	default:
		close(x.stop)
	}
	x.running.Wait()
}

// whole ends the transfers, and wants each to have brought what was sent.
func (x *transfers) whole() {
	x.t.Helper()
	stopped := time.Now()
	x.finish()
	for i, t := range x.ends {
		if took := t.came.ended.Sub(stopped); took > wholeWithin {
			x.t.Errorf("transfer %d, of %d octets, stood still for %v", i, t.came.octets, took)
		}
		switch {
		case t.sent.err != nil || t.came.err != nil:
			x.t.Errorf("transfer %d is lost: after %d octets were sent: %v; after %d came: %v", i, t.sent.octets, t.sent.err, t.came.octets, t.came.err)
		case t.sent.octets != t.came.octets || !bytes.Equal(t.sent.sum, t.came.sum):
			x.t.Errorf("transfer %d: %d octets were sent, with SHA-256 %x, and %d came, with %x", i, t.sent.octets, t.sent.sum, t.came.octets, t.came.sum)
		case t.came.octets == 0:
			x.t.Errorf("transfer %d: nothing was sent", i)
		}
	}
}

// moving waits until more octets have arrived.
func (x *transfers) moving(within time.Duration) bool {
	before, limit := x.passed.Load(), time.Now().Add(within)
	for x.passed.Load() == before {
		if time.Now().After(limit) {
			return false
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	return true
}

// A pulse is a TCP connection through a tunnel on which the web host says what time it is,
// again and again.
type pulse struct {
	running sync.WaitGroup
	conns   []net.Conn

	mu      sync.Mutex
	heard   sync.Cond
	arrived []beat // in their order
	err     error  // why no more comes
}

// A beat is one word of a pulse.
type beat struct{ said, came time.Time }

// beatEvery is how often a pulse beats: that exact are the times that it measures.
const beatEvery = 5 * time.Millisecond

// pulse begins one to the laptop.
func (w *world) pulse() *pulse {
	w.t.Helper()
	server, err := w.Internet.Listen("tcp", fmt.Sprintf(":%d", pulsePort))
	if err != nil {
		w.t.Fatal(err)
	}
	defer server.Close()
	c, err := w.Laptop.Dial(within(w.t, 20*time.Second), "tcp", netip.AddrPortFrom(lab.Web4, pulsePort).String())
	if err != nil {
		w.t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &pulse{conns: []net.Conn{c, far}}
	p.heard.L = &p.mu
	began := time.Now()
	p.running.Go(func() {
		every := time.NewTicker(beatEvery)
		defer every.Stop()
		for range every.C {
			if _, err := far.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Since(began)))); err != nil {
				return
			}
		}
	})
	p.running.Go(func() {
		word := make([]byte, 8)
		for {
			_, err := io.ReadFull(c, word)
			p.mu.Lock()
			if err != nil {
				p.err = err
			} else {
				p.arrived = append(p.arrived, beat{began.Add(time.Duration(binary.BigEndian.Uint64(word))), time.Now()})
			}
			p.heard.Broadcast()
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	w.t.Cleanup(p.end)
	return p
}

// after waits for something that was said after a time, and says how long after that time
// it came. It fails when the pulse has died, or does not beat within patience.
func (p *pulse) after(t time.Time, patience time.Duration) (time.Duration, error) {
	late := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard.Broadcast()
	})
	defer late.Stop()
	limit := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		i, _ := slices.BinarySearchFunc(p.arrived, t, func(b beat, t time.Time) int { return b.said.Compare(t) })
		switch {
		case i < len(p.arrived):
			return p.arrived[i].came.Sub(t), nil
		case p.err != nil:
			return 0, fmt.Errorf("the connection has ended: %w", p.err)
		case !time.Now().Before(limit):
			return 0, fmt.Errorf("nothing came for %v", patience)
		}
		p.heard.Wait()
	}
}

// end ends it.
func (p *pulse) end() {
	for _, c := range p.conns {
		c.Close()
	}
	p.running.Wait()
}

// A counted is numbered datagrams through a tunnel, both ways: none comes twice.
type counted struct {
	t       *testing.T
	running sync.WaitGroup
	stop    chan struct{}
	conns   []net.Conn
	far     net.PacketConn

	mu    sync.Mutex
	sent  int
	there map[uint64]int
	here  map[uint64]int
}

// countEvery is how often a datagram goes out.
const countEvery = 10 * time.Millisecond

// datagrams begins to send them to the web host, which sends each back.
func (w *world) datagrams() *counted {
	w.t.Helper()
	d := &counted{t: w.t, stop: make(chan struct{}), there: make(map[uint64]int), here: make(map[uint64]int)}
	var err error
	if d.far, err = w.Internet.ListenPacket("udp", netip.AddrPortFrom(lab.Web6, countPort).String()); err != nil {
		w.t.Fatal(err)
	}
	c, err := w.Laptop.Dial(w.t.Context(), "udp", netip.AddrPortFrom(lab.Web6, countPort).String())
	if err != nil {
		d.far.Close()
		w.t.Fatal(err)
	}
	d.conns = []net.Conn{c}
	count := func(into map[uint64]int, b []byte) {
		d.mu.Lock()
		defer d.mu.Unlock()
		into[binary.BigEndian.Uint64(b)]++
	}
	d.running.Go(func() {
		b := make([]byte, 64)
		for {
			n, from, err := d.far.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && n == 8 {
				count(d.there, b)
				d.far.WriteTo(b[:n], from)
			}
		}
	})
	d.running.Go(func() {
		b := make([]byte, 64)
		for {
			n, err := c.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && n == 8 {
				count(d.here, b)
			}
		}
	})
	d.running.Go(func() {
		every := time.NewTicker(countEvery)
		defer every.Stop()
		for i := uint64(0); ; i++ {
			select {
			case <-every.C:
				c.Write(binary.BigEndian.AppendUint64(nil, i))
			case <-d.stop:
				d.mu.Lock()
				d.sent = int(i)
				d.mu.Unlock()
				return
			}
		}
	})
	w.t.Cleanup(d.end)
	return d
}

// end ends them.
func (d *counted) end() {
	select {
	case <-d.stop:
		return
	default:
	}
	close(d.stop)
	d.far.Close()
	for _, c := range d.conns {
		c.Close()
	}
	d.running.Wait()
}

// once ends them, and wants no datagram to have come twice, and some to have come.
func (d *counted) once() {
	d.t.Helper()
	d.end()
	for way, came := range map[string]map[uint64]int{"there": d.there, "back": d.here} {
		if len(came) == 0 {
			d.t.Errorf("of %d datagrams none came %s", d.sent, way)
		}
		for i, n := range came {
			if n != 1 {
				d.t.Errorf("datagram %d came %d times %s", i, n, way)
			}
		}
	}
	d.t.Logf("of %d datagrams %d came there and %d back", d.sent, len(d.there), len(d.here))
}
