package usernat

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	loopback = netip.MustParseAddrPort("127.0.0.1:0")
	inner4   = netip.MustParseAddr("10.0.2.15")
	inner6   = netip.MustParseAddr("fd00:b0d::15")
)

// redirect leads from a free port of the host's loopback to a port inside.
func redirect(network string, to netip.Addr, port uint16) Redirect {
	return Redirect{Network: network, Listen: loopback, To: netip.AddrPortFrom(to, port)}
}

// settles has the end of the test wait until connections that it closed have ended
// inside too.
func (b *bench) settles() {
	b.t.Cleanup(func() {
		eventually(b.t, "connections to end", func() bool { return b.nat.Stats().TCP == 0 }, func() string { return "" })
	})
}

// come connects to a redirection from the host.
func come(t testing.TB, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, to.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func TestRedirectTCP(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 8080), redirect("tcp", inner6, 8080)}})
	for i, c := range []struct {
		listen string
		from   netip.Addr
	}{{"10.0.2.15:8080", host4}, {"[fd00:b0d::15]:8080", host6}} {
		seen := make(chan netip.Addr, 10)
		serve(t, b.inside, c.listen, func(c *net.TCPConn) {
			seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			echo(c)
		})
		conn := come(t, "tcp", b.nat.Redirects()[i])
		want := make([]byte, 3<<20)
		rand.Read(want)
		go func() {
			conn.Write(want)
			conn.(*net.TCPConn).CloseWrite() // half: the echo still comes
		}()
		got, err := io.ReadAll(conn)
		if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
			t.Errorf("%s: %d octets back of %d, %v", c.listen, len(got), len(want), err)
		}
		if from := <-seen; from != c.from {
			t.Errorf("%s: inside it came from %v, want %v", c.listen, from, c.from)
		}
	}
	if s := b.nat.Stats(); s.RedirectedTCP != 2 || s.OpenedTCP != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A reader that takes nothing holds its writer back, whoever of the two is
// inside.
func TestRedirectBackpressure(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 8080)}})
	inside := make(chan *net.TCPConn, 1)
	serve(t, b.inside, "10.0.2.15:8080", func(c *net.TCPConn) { inside <- c })
	outside := come(t, "tcp", b.nat.Redirects()[0]).(*net.TCPConn)
	in := <-inside
	defer in.Close()
	for _, c := range []struct {
		name     string
		from, to *net.TCPConn
	}{{"in", outside, in}, {"out", in, outside}} {
		var sent int64
		junk := make([]byte, 64<<10)
		for {
			c.from.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			k, err := c.from.Write(junk)
			sent += int64(k)
			if err != nil {
				break
			}
			if sent > 64<<20 {
				t.Fatalf("%s: 64 MiB went to nobody", c.name)
			}
		}
		c.from.SetWriteDeadline(time.Time{})
		c.from.CloseWrite()
		c.to.SetReadDeadline(time.Now().Add(20 * time.Second))
		if got, err := io.Copy(io.Discard, c.to); err != nil || got != sent {
			t.Errorf("%s: %d octets of %d, %v", c.name, got, sent, err)
		}
	}
}

// What nobody inside takes is reset outside, soon: after the connection, or before
// it was noticed to stand.
func TestRedirectRefused(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 9)}})
	began := time.Now()
	c, err := net.Dial("tcp", b.nat.Redirects()[0].String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v", d)
	}
}

// A silent inner side ends with a reset too, and so does the end of the NAT.
func TestRedirectSilent(t *testing.T) {
	b := newBench(t, Config{
		Redirect: []Redirect{redirect("tcp", netip.MustParseAddr("10.0.2.77"), 80)}, // the kernel inside drops it
		Limits:   Limits{Dials: 1},
	})
	first := come(t, "tcp", b.nat.Redirects()[0])
	eventually(t, "the dial", func() bool { return b.nat.Stats().Dialing == 1 }, func() string { return "" })
	time.Sleep(yieldAfter) // from then on it makes room
	second := come(t, "tcp", b.nat.Redirects()[0])
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the first: %v, want a reset", err)
	}
	b.nat.Close()
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the second: %v, want a reset", err)
	}
}

func TestRedirectOnce(t *testing.T) {
	r := redirect("tcp", inner4, 8080)
	r.Once = true
	b := newBench(t, Config{Redirect: []Redirect{r}})
	b.settles()
	serve(t, b.inside, "10.0.2.15:8080", echo)
	c := come(t, "tcp", b.nat.Redirects()[0])
	fmt.Fprint(c, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if c, err := net.Dial("tcp", b.nat.Redirects()[0].String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a second connection: %v, %v", c, err)
	}
}

func TestRedirectFlows(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 8080)}, Limits: Limits{Flows: 3}})
	b.settles()
	serve(t, b.inside, "10.0.2.15:8080", echo)
	for i := range 5 {
		c, err := net.Dial("tcp", b.nat.Redirects()[0].String()) // the reset may come while it connects
		if err == nil {
			defer c.Close()
			c.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprint(c, "x")
			_, err = c.Read(make([]byte, 1))
		}
		if (err == nil) != (i < 3) {
			t.Errorf("connection %d: %v", i+1, err)
		}
	}
	if s := b.nat.Stats(); s.TCP != 3 || s.RefusedFlows != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestRedirectUDP(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("udp", inner4, 5353), redirect("udp", inner6, 5353)}})
	for i, listen := range []string{"10.0.2.15:5353", "[fd00:b0d::15]:5353"} {
		alias := []netip.Addr{host4, host6}[i]
		var mu sync.Mutex
		seen := map[string]netip.AddrPort{}
		listenUDP(t, b.inside, listen, func(c *net.UDPConn, data []byte, from *net.UDPAddr) {
			mu.Lock()
			a := from.AddrPort()
			seen[string(data)] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			mu.Unlock()
			c.WriteToUDP(append(data, " yourself"...), from)
		})
		for _, text := range []string{"one", "two", strings.Repeat("long ", 1200)} {
			c := come(t, "udp", b.nat.Redirects()[i])
			fmt.Fprint(c, text)
			got := make([]byte, 10000)
			k, err := c.Read(got)
			if err != nil || string(got[:k]) != text+" yourself" {
				t.Errorf("%s: %.20q, %v", listen, got[:k], err)
			}
			// Inside, a visitor keeps the port it has outside when it can.
			want := netip.AddrPortFrom(alias, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
			mu.Lock()
			if seen[text] != want {
				t.Errorf("%s: inside it came from %v, want %v", listen, seen[text], want)
			}
			mu.Unlock()
		}
	}
	if s := b.nat.Stats(); s.UDP != 6 || s.RedirectedUDP != 6 || s.OpenedUDP != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Two with the same port outside are two inside.
func TestRedirectUDPSamePort(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{
		{Network: "udp", Listen: netip.MustParseAddrPort("0.0.0.0:0"), To: netip.AddrPortFrom(inner4, 5353)},
	}})
	listenUDP(t, b.inside, "10.0.2.15:5353", func(c *net.UDPConn, data []byte, from *net.UDPAddr) { c.WriteToUDP(data, from) })
	to := netip.AddrPortFrom(far4, b.nat.Redirects()[0].Port())
	port := 0
	var all []net.Conn
	for _, s := range []space{farSpace, worldSpace} {
		if err := s.in(func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{Port: port}, net.UDPAddrFromAddrPort(to))
			if err == nil {
				port = c.LocalAddr().(*net.UDPAddr).Port
				c.SetDeadline(time.Now().Add(10 * time.Second))
				all = append(all, c)
				t.Cleanup(func() { c.Close() })
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		for i, c := range all {
			text := fmt.Sprint(round, i)
			fmt.Fprint(c, text)
			got := make([]byte, 10)
			if k, err := c.Read(got); err != nil || string(got[:k]) != text {
				t.Errorf("%d: %q, %v", i, got[:k], err)
			}
		}
	}
	if s := b.nat.Stats(); s.UDP != 2 {
		t.Errorf("%d visitors, want 2", s.UDP)
	}
}

// A flood of sources displaces visitors, and nothing else.
func TestRedirectUDPFlood(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("udp", inner4, 5353)}, Limits: Limits{Flows: maxVisitors + 1}})
	addr := listenUDP(t, worldSpace, "198.51.100.10:0", func(c *net.UDPConn, data []byte, from *net.UDPAddr) { c.WriteToUDP(data, from) })
	own := b.mustDial("udp", addr) // a flow of the inner side's own
	fmt.Fprint(own, "x")
	own.Read(make([]byte, 1))
	to := net.UDPAddrFromAddrPort(b.nat.Redirects()[0])
	for i := range uint64(maxVisitors + 100) {
		c, err := net.DialUDP("udp", nil, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() // until then its port is nobody else's
		c.Write([]byte("x"))
		if eventually(t, "a visitor", func() bool { return b.nat.Stats().RedirectedUDP == i+1 },
			func() string { return fmt.Sprintf("%d: %+v", i, b.nat.Stats()) }); t.Failed() {
			return
		}
	}
	if s := b.nat.Stats(); s.UDP != maxVisitors+1 || s.Evicted != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestRedirectUDPIdle(t *testing.T) {
	r := redirect("udp", inner4, 5353)
	r.Idle = 100 * time.Millisecond
	b := newBench(t, Config{Redirect: []Redirect{r}})
	c := come(t, "udp", b.nat.Redirects()[0])
	fmt.Fprint(c, "x")
	eventually(t, "the redirection to end", func() bool {
		p, err := net.ListenPacket("udp", b.nat.Redirects()[0].String())
		if err == nil {
			p.Close()
		}
		return err == nil
	}, func() string { return fmt.Sprintf("%+v", b.nat.Stats()) })
	if s := b.nat.Stats(); s.UDP != 0 || b.nat.places.taken.Load() != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestRedirectErrors(t *testing.T) {
	taken := serve(t, farSpace, "127.0.0.1:0", echo)
	takenUDP := listenUDP(t, farSpace, "127.0.0.1:0", func(*net.UDPConn, []byte, *net.UDPAddr) {})
	at := func(r Redirect, f func(*Redirect)) Redirect { f(&r); return r }
	good := redirect("tcp", inner4, 80)
	for _, c := range []struct {
		r    Redirect
		want string
	}{
		{at(good, func(r *Redirect) { r.Listen = netip.MustParseAddrPort(taken) }),
			"usernat: redirection tcp " + taken + " to 10.0.2.15:80: bind: address already in use"},
		{at(good, func(r *Redirect) { r.Network, r.Listen = "udp", netip.MustParseAddrPort(takenUDP) }),
			"usernat: redirection udp " + takenUDP + " to 10.0.2.15:80: bind: address already in use"},
		{at(good, func(r *Redirect) { r.Listen = netip.MustParseAddrPort("192.0.2.1:80") }), "cannot assign requested address"},
		{at(good, func(r *Redirect) { r.Network = "sctp" }), "neither tcp nor udp"},
		{at(good, func(r *Redirect) { r.To = netip.MustParseAddrPort("127.0.0.1:80") }), "127.0.0.1:80 is no place inside"},
		{at(good, func(r *Redirect) { r.To = netip.MustParseAddrPort("10.0.2.15:0") }), "is no place inside"},
		{at(good, func(r *Redirect) { r.To = netip.MustParseAddrPort("10.0.2.2:80") }), "is the NAT's own"},
		{at(good, func(r *Redirect) { r.To = netip.MustParseAddrPort("[fd00:b0d::15]:80") }), "no host alias"},
		{at(good, func(r *Redirect) { r.Listen = netip.AddrPort{} }), "no address to listen at"},
		{at(good, func(r *Redirect) { r.Idle = time.Second }), "is for udp"},
		{at(good, func(r *Redirect) { r.Network, r.Once = "udp", true }), "is for tcp"},
	} {
		files := openFiles()
		n, err := New(Config{Host: []netip.Addr{host4}, DNS: []netip.Addr{dns4}, Redirect: []Redirect{good, c.r}})
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.r, err, c.want)
		}
		eventually(t, "all files to be closed again", func() bool { return openFiles() <= files },
			func() string { return fmt.Sprintf("%v: %d files are left open", c.r, openFiles()-files) })
	}
	if _, err := New(Config{Host: []netip.Addr{host6}, MTU: 1000, Redirect: []Redirect{redirect("tcp", inner6, 80)}}); err == nil {
		t.Error("IPv6 with an MTU of 1000")
	}
}

// listening returns the sockets of this namespace that wait for others.
func listening(t *testing.T) (list []string) {
	t.Helper()
	for _, f := range []struct{ name, state string }{{"tcp", "0A"}, {"tcp6", "0A"}, {"udp", "07"}, {"udp6", "07"}, {"udplite", "07"}, {"udplite6", "07"}} {
		text, err := os.ReadFile("/proc/thread-self/net/" + f.name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if w := strings.Fields(line); len(w) > 3 && w[3] == f.state {
				list = append(list, f.name+" "+w[1])
			}
		}
	}
	return list
}

// sniff counts the packets that come out of the NAT inside, but for IPv6
// neighbour and multicast housekeeping of the kernel there.
func (b *bench) sniff() (fd int) {
	b.t.Helper()
	b.in(func() (err error) {
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		return err
	})
	b.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// packetsIn returns how many packets from the NAT fd has seen.
func packetsIn(fd int) (n int) {
	buf := make([]byte, 2048)
	for {
		_, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return n
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_HOST {
			n++
		}
	}
}

// scan connects to every port of addr, and sends a datagram to some.
func scan(t *testing.T, addr netip.Addr) (open int) {
	t.Helper()
	for port := 1; port < 65536; port++ {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}) == nil {
			open++
		}
		unix.Close(fd)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for port := 1; port < 65536; port++ {
		unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Port: port, Addr: addr.As4()})
	}
	return open
}

// Without a redirection nothing listens and nobody gets in, by whatever port and
// whatever protocol; with one, just that one.
func TestNobodyGetsIn(t *testing.T) {
	before := listening(t)
	b := newBench(t, Config{Allow: Policy{Host: true, LinkLocal: true}}) // which opens nothing inwards
	b.settles()
	serve(t, b.inside, "10.0.2.15:8080", echo)
	fmt.Fprint(b.mustDial("tcp", serve(t, farSpace, "198.51.100.1:0", echo)), "busy") // a NAT at work
	fd := b.sniff()
	time.Sleep(200 * time.Millisecond) // what was under way has come
	packetsIn(fd)
	if got := listening(t); len(got) != len(before)+1 { // the one above
		t.Errorf("listening: %q, before %q", got, before)
	}
	for _, addr := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), far4} {
		scan(t, addr)
	}
	if n := packetsIn(fd); n != 0 {
		t.Errorf("%d packets came in", n)
	}

	b = newBench(t, Config{Redirect: []Redirect{redirect("tcp", inner4, 8080)}})
	b.settles()
	serve(t, b.inside, "10.0.2.15:8080", echo)
	fd = b.sniff()
	if open := scan(t, netip.MustParseAddr("127.0.0.1")); open < 1 {
		t.Errorf("the scan found %d ports, and would find nothing", open)
	}
	eventually(t, "packets of a redirection", func() bool { return packetsIn(fd) > 0 }, func() string { return "none came" })
}

// What the inner side sends to a visitor's port from elsewhere is not the
// visitor's.
func TestRedirectUDPStranger(t *testing.T) {
	b := newBench(t, Config{Redirect: []Redirect{redirect("udp", inner4, 5353)}})
	visitor := make(chan *net.UDPAddr, 1)
	listenUDP(t, b.inside, "10.0.2.15:5353", func(c *net.UDPConn, data []byte, from *net.UDPAddr) { visitor <- from })
	c := come(t, "udp", b.nat.Redirects()[0])
	fmt.Fprint(c, "x")
	stranger := b.mustDial("udp", (<-visitor).String())
	fmt.Fprint(stranger, "boo")
	if _, err := stranger.Read(make([]byte, 1)); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("the stranger was told %v, want prohibited", err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if k, err := c.Read(make([]byte, 9)); err == nil {
		t.Errorf("the visitor got %d octets of a stranger", k)
	}
}
