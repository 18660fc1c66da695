package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/bodkin-net/bodkin/tunnel"
)

// A port is a Stack as a tunnel.Port.
type port struct{ *Stack }

func (p port) ReadPackets(b []tunnel.Packet) (int, error) { return p.Out.ReadPackets(b) }
func (p port) WritePackets(b []tunnel.Packet) error {
	for _, packet := range b {
		p.Inject(packet.Data[0]>>4 == 6, packet.Data, nil)
	}
	return nil
}
func (p port) Caps() tunnel.Caps {
	return tunnel.Caps{MTU: p.MTU(), Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6}
}
func (p port) Close() error { p.Stack.Close(); return nil }

// A bench is two stacks joined in memory. The tests connect from near to far, where
// gVisor's own sockets are, and splice near's end to a socket of the host.
type bench struct {
	t         testing.TB
	near, far *Stack
}

var (
	nearAddr = netip.MustParseAddr("10.0.2.15")
	farAddr  = netip.MustParseAddr("fd00::1")
	near6    = netip.MustParseAddr("fd00::2")
)

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	before, files := runtime.NumGoroutine(), openFiles()
	o.MTU, o.Local = 65535, []netip.Addr{nearAddr, near6}
	if o.Buffered == 0 {
		o.Buffered = 24 << 20
	}
	b := &bench{t: t}
	var err error
	if b.near, err = New(o); err != nil {
		t.Fatal(err)
	}
	if b.far, err = New(Options{MTU: 65535, Buffered: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(ctx, port{b.near}, port{b.far}) }()
	t.Cleanup(func() {
		cancel()
		<-joined
		if b.near.Conns() != 0 {
			eventually(t, "the Conns to end", func() bool { return b.near.Conns() == 0 })
		}
		if n := b.near.Buffered(); n != 0 {
			t.Errorf("%d octets are charged at the end", n)
		}
		b.near.Destroy()
		b.far.Destroy()
		eventually(t, "goroutines and files to go", func() bool { return runtime.NumGoroutine() <= before && openFiles() <= files })
	})
	return b
}

func openFiles() int {
	n := 0
	e, _ := os.ReadDir("/proc/self/fd")
	for _, f := range e {
		// The runtime's poller makes its own (anon_inode) when it is first used.
		name, _ := os.Readlink("/proc/self/fd/" + f.Name())
		if !strings.HasPrefix(name, "pipe:") && !strings.HasPrefix(name, "anon_inode:") {
			n++
		}
	}
	return n
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// listen listens at the far stack.
func (b *bench) listen() *gonet.TCPListener {
	b.t.Helper()
	l, err := gonet.ListenTCP(b.far.GVisor(), tcpip.FullAddress{NIC: NIC, Addr: AddressOf(farAddr), Port: 80}, protocolOf(farAddr))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	return l
}

// sockets returns the two ends of a TCP connection of the host.
func sockets(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

// splice connects to l and returns both ends: the host's socket, the far stack's, and
// the Conn between.
func (b *bench) splice(l *gonet.TCPListener) (*net.TCPConn, *gonet.TCPConn, *Conn) {
	b.t.Helper()
	mine, outer := sockets(b.t)
	c := b.near.NewConn(outer)
	ep, _, terr := b.near.Bind(near6, &c.WQ)
	if terr == nil {
		terr = b.near.Connect(context.Background(), ep, &c.WQ, netip.AddrPortFrom(farAddr, 80))
	}
	if terr != nil {
		b.t.Fatal(terr)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); c.Run(ep) }()
	b.t.Cleanup(func() { <-ran })
	eventually(b.t, "the Conn to run", func() bool {
		b.near.conns.mu.Lock()
		defer b.near.conns.mu.Unlock()
		_, runs := b.near.conns.m[c]
		return runs
	})
	d, err := l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { d.Close(); mine.Close(); c.reset() })
	d.SetDeadline(time.Now().Add(20 * time.Second))
	return mine, d.(*gonet.TCPConn), c
}

// Octets go both ways, each way's end is passed on by itself, and then all has ended.
func TestSplice(t *testing.T) {
	b := newBench(t, Options{})
	mine, theirs, _ := b.splice(b.listen())
	const n = 8 << 20
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(mine, zeros{}, n)
		sent <- errors.Join(err, mine.CloseWrite())
	}()
	if k, err := io.Copy(io.Discard, theirs); k != n || err != nil {
		t.Fatalf("%d octets came, %v", k, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := io.CopyN(theirs, zeros{}, n)
		sent <- errors.Join(err, theirs.CloseWrite())
	}()
	if k, err := io.Copy(io.Discard, mine); k != n || err != nil {
		t.Fatalf("%d octets came, %v", k, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	eventually(t, "the Conn to end", func() bool { return b.near.Conns() == 0 })
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A reset on either side is one on the other.
func TestSpliceReset(t *testing.T) {
	b := newBench(t, Options{})
	l := b.listen()
	mine, theirs, _ := b.splice(l)
	mine.SetLinger(0)
	mine.Close()
	if _, err := theirs.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the far side read %v", err)
	}
	mine, theirs, c := b.splice(l)
	c.ep.Abort() // as a RST from the far side does
	if _, err := mine.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the socket read %v", err)
	}
	theirs.Close()
}

// An address where nothing listens refuses, and a ctx that ends is a timeout.
func TestConnectFails(t *testing.T) {
	b := newBench(t, Options{})
	for _, want := range []string{"connection was refused", "operation timed out"} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if strings.Contains(want, "timed") {
			cancel()
		}
		c := b.near.NewConn(nil)
		ep, _, terr := b.near.Bind(near6, &c.WQ)
		if terr != nil {
			t.Fatal(terr)
		}
		if terr = b.near.Connect(ctx, ep, &c.WQ, netip.AddrPortFrom(farAddr, 9)); terr == nil || terr.String() != want {
			t.Errorf("got %v, want %s", terr, want)
		}
	}
}

// A reader that takes nothing is charged with what lies in front of it, and reset
// over the limit when it has stood still for long; who told so is told.
func TestStalled(t *testing.T) {
	b := newBench(t, Options{Buffered: sendBuffer})
	l := b.listen()
	for range 2 {
		_, theirs, _ := b.splice(l)
		go io.Copy(theirs, zeros{}) // ends with the connection
	}
	eventually(t, "two stalls to be charged", b.near.Full)
	if c := b.near.conns.oldest(time.Now()); c != nil {
		t.Error("a connection is to be reset at once")
	}
	c := b.near.conns.oldest(time.Now().Add(stallPatience))
	if c == nil {
		t.Fatal("no connection is to be reset after ten seconds")
	}
	if remote, local := c.ends(); remote.Addr() != farAddr || remote.Port() != 80 || local.Addr() != near6 {
		t.Errorf("it connects %v and %v", remote, local)
	}
}

// A buffer that grew is cut back when its connection has been quiet, and the
// connection goes on.
func TestBufferCutBack(t *testing.T) {
	b := newBench(t, Options{})
	mine, theirs, c := b.splice(b.listen())
	go io.Copy(mine, zeros{}) // ends with the connection
	read := func(n int64) {
		t.Helper()
		if _, err := io.CopyN(io.Discard, theirs, n); err != nil {
			t.Fatal(err)
		}
	}
	size := c.ep.SocketOptions().GetSendBufferSize
	for range 50 {
		read(4 << 20)
		if size() > sendBuffer {
			break
		}
	}
	if size() <= sendBuffer {
		t.Fatalf("the buffer has not grown: %d octets", size())
	}
	// It moves, and is quiet as far as a clock of the future can tell.
	cut := size()
	for end := time.Now().Add(5 * time.Second); cut > sendBuffer && time.Now().Before(end); cut = size() {
		read(1 << 20)
		b.near.conns.cutBack(time.Now().Add(2 * quietFor))
	}
	if cut > sendBuffer { // it grows again at once
		t.Errorf("the buffer is not cut back: %d octets", cut)
	}
	read(8 << 20)
}

// An Outlet that is idle holds no slab; a full one holds back whoever waits, and
// refuses who does not.
func TestOutlet(t *testing.T) {
	o := NewOutlet()
	put := func(octet byte, wait bool) bool {
		b, ok := o.Reserve(tunnel.MaxPacket, wait)
		if ok {
			b[0] = octet
			o.Commit(b, tunnel.Offload{})
		}
		return ok
	}
	n := 0
	for put(byte(n), false) {
		n++
	}
	if n < 7 || o.Waiting() != n {
		t.Fatalf("%d packets fit, %d wait", n, o.Waiting())
	}
	waited := make(chan bool)
	go func() { waited <- put(byte(n), true) }()
	p := make([]tunnel.Packet, 3)
	for seen := 0; seen <= n; {
		k, err := o.ReadPackets(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range p[:k] {
			if one.Data[0] != byte(seen) {
				t.Fatalf("packet %d in the place of %d", one.Data[0], seen)
			}
			seen++
		}
	}
	if !<-waited {
		t.Fatal("a writer that waited was refused")
	}
	done := make(chan error)
	go func() { _, err := o.ReadPackets(p); done <- err }()
	eventually(t, "the slabs to be given back", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.reading && o.filling == nil && o.draining == nil
	})
	o.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) || put(0, true) {
		t.Fatalf("after Close: %v", err)
	}
}
