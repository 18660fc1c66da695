package serve

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/trust"
	"github.com/bodkin-net/bodkin/tunnel"
)

// hostAlias is where a client finds the server's loopback, where that is open.
var hostAlias = netip.MustParseAddr("10.0.2.2")

// source gives octets to whoever connects, without end.
func source(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var giving sync.WaitGroup
	giving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			giving.Go(func() {
				defer c.Close()
				b := make([]byte, 256<<10)
				for {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); giving.Wait() })
	return netip.AddrPortFrom(hostAlias, l.Addr().(*net.TCPAddr).AddrPort().Port())
}

// deaf is a port whose connections are never answered: its queue is full, and Linux
// drops the SYNs that come then.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := at.(*unix.SockaddrInet4).Port
	for i := 0; ; i++ {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String(), 200*time.Millisecond)
		if err != nil {
			return netip.AddrPortFrom(hostAlias, uint16(port))
		}
		if i == 10 {
			t.Fatal("its queue has no end")
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestNeighbours: what one client does, another's pings do not feel: sixteen thousand
// connections to a place that does not answer, and a download as fast as it goes.
func TestNeighbours(t *testing.T) {
	noisy, quiet, loader := trust.Generate(), trust.Generate(), trust.Generate()
	r := start(t, []string{lineFor(noisy, "", "noisy"), lineFor(quiet, "", "quiet"), lineFor(loader, "", "loader")}, "--allow", "host")
	b := r.must(quiet, usualHello())
	from, dead := source(t), deaf(t)

	a := r.must(noisy, usualHello())
	const syns = 16384
	for i := range syns {
		if err := a.link.WritePackets([]tunnel.Packet{synTo(a.self(), dead, uint16(1024+i))}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the connections are being made", func() bool { return r.status("noisy").Flows > 100 })
	dials := worst(t, b, 100)
	if dials > pingWithin {
		t.Errorf("beside %d connections that do not come about, a ping takes %v", syns, dials)
	}
	conn, err := r.proxied(quiet).DialContext(t.Context(), "tcp", from.String())
	if err != nil {
		t.Errorf("beside them, no connection: %v", err)
	} else {
		conn.Close()
	}

	p := r.proxied(loader)
	var loading sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer loading.Wait()
	defer stop()
	var got sync.Map
	for i := range 4 {
		c, err := p.DialContext(ctx, "tcp", from.String())
		if err != nil {
			t.Fatal(err)
		}
		loading.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			n, _ := io.Copy(io.Discard, c)
			got.Store(i, n)
		})
	}
	began := time.Now()
	loaded := worst(t, b, 200)
	if loaded > pingWithin {
		t.Errorf("beside a download, a ping takes %v", loaded)
	}
	took := time.Since(began)
	stop()
	loading.Wait()
	var octets int64
	got.Range(func(_, n any) bool { octets += n.(int64); return true })
	if octets < 10<<20 {
		t.Errorf("the download came to %d octets", octets)
	}
	t.Logf("99 of 100 pings: within %v beside dials, %v beside a download of %.0f MB/s", dials, loaded, float64(octets)/1e6/took.Seconds())
}

// worst pings so often, and returns what 99 of 100 stay below.
func worst(t *testing.T, c *client, times int) time.Duration {
	t.Helper()
	trips := pingAll(t, []*client{c}, times, 5*time.Millisecond)
	return trips[len(trips)*99/100]
}

// synTo is a SYN from src's port, whose checksum is left to the receiver.
func synTo(src netip.Addr, dst netip.AddrPort, port uint16) tunnel.Packet {
	b := make([]byte, 40)
	ipHeader(b, 6, src, dst.Addr())
	b[20], b[21] = byte(port>>8), byte(port)
	b[22], b[23] = byte(dst.Port()>>8), byte(dst.Port())
	b[32], b[33] = 5<<4, 0x02
	b[34] = 0xff
	return tunnel.Packet{Data: b, GSO: tunnel.Offload{NeedsChecksum: true}}
}

// TestRate: a client's line says how fast it may be.
func TestRate(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, `rate="2M"`, "slow")}, "--allow", "host")
	c, err := r.proxied(k).DialContext(t.Context(), "tcp", source(t).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	timeOf := func(n int64) time.Duration {
		began := time.Now()
		if _, err := io.CopyN(io.Discard, c, n); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	timeOf(1 << 20) // what may pass at once is over
	if took := timeOf(2e6); took < 700*time.Millisecond || took > 3*time.Second {
		t.Errorf("two million octets take %v at two million a second", took)
	}
	// The same line with another rate changes it, and ends nothing.
	r.allow([]string{lineFor(k, `rate="500M"`, "slow")})
	began := time.Now()
	for timeOf(2e6) > 200*time.Millisecond {
		if time.Since(began) > 5*time.Second {
			t.Fatal("it stays slow")
		}
	}
}

// TestFlows: a client's line says how many connections it may have.
func TestFlows(t *testing.T) {
	k := trust.Generate()
	r := start(t, []string{lineFor(k, `flows="3"`, "few")}, "--allow", "host")
	p := r.proxied(k)
	from := source(t)
	open := func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return p.DialContext(ctx, "tcp", from.String())
	}
	var conns []net.Conn
	for i := range 3 {
		c, err := open()
		if err != nil {
			t.Fatalf("connection %d of 3: %v", i+1, err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if c, err := open(); err == nil {
		c.Close()
		t.Error("a fourth connection is had")
	}
	conns[0].Close()
	eventually(t, "another one in the place of one that ended", func() bool {
		c, err := open()
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	eventually(t, "it is logged", func() bool { return len(r.said("reason=flows")) == 1 })
}
