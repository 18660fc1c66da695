package usernat

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/endpoint/tun"
	"github.com/bodkin-net/bodkin/tunnel"
)

// The tests run in a network of their own: this process is moved into a fresh
// network namespace, the far host, beside two more.
//
//	inside                     far host                    world
//	tun 10.0.2.15       NAT    198.51.100.1 ------------- 198.51.100.10
//	    fd00:b0d::15           2001:db8:5::1  veth         2001:db8:5::10
//
// The world routes 198.18.0.0/15 nowhere (host unreachable), and 100.64.9.0/24
// back, so that there is a second hop. The far host sends 203.0.113.0/24 and
// 2001:db8:dead::/48 to a neighbour that is not there.
const movedEnv = "USERNAT_TEST_IN_NAMESPACE"

var (
	world4, world6 = netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:5::10")
	far4, far6     = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:5::1")
	dns4, dns6     = netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00:b0d::3")
	host4, host6   = netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fd00:b0d::2")
	hole4          = netip.MustParseAddr("203.0.113.9")
	nowhere4       = netip.MustParseAddr("198.18.0.1")
)

// A space is a network namespace.
type space int // its descriptor

var farSpace, worldSpace space

func TestMain(m *testing.M) {
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run()) // fuzz targets need no network, and workers no move
		}
	}
	if os.Getenv(movedEnv) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fmt.Fprintf(os.Stderr, "usernat tests make network namespaces and need root: unshare: %v\n", err)
			os.Exit(1)
		}
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), movedEnv+"=1"))
		fmt.Fprintln(os.Stderr, "exec:", err)
		os.Exit(1)
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "usernat tests: building the network:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// in runs f with a thread in s. Sockets it opens belong there.
func (s space) in(f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(int(s), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err := f()
	if e := unix.Setns(int(farSpace), unix.CLONE_NEWNET); e != nil {
		panic(e) // the thread cannot be given back
	}
	runtime.UnlockOSThread()
	return err
}

func here() (space, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return space(fd), err
}

// newSpace makes a namespace with its loopback up.
func newSpace() (s space, err error) {
	runtime.LockOSThread()
	if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return
	}
	if s, err = here(); err == nil {
		err = up("lo")
	}
	if e := unix.Setns(int(farSpace), unix.CLONE_NEWNET); e != nil {
		panic(e)
	}
	runtime.UnlockOSThread()
	return
}

func up(name string, addrs ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func route(dst, via string, kind int) error {
	_, n, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: n, Type: kind}
	if via != "" {
		r.Gw = net.ParseIP(via)
	}
	return netlink.RouteAdd(r)
}

func routeDev(dst, dev string) error {
	_, n, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	l, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: n, LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK})
}

func first1(errs ...error) error {
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

func build() (err error) {
	if farSpace, err = here(); err != nil {
		return err
	}
	if worldSpace, err = newSpace(); err != nil {
		return err
	}
	noDAD := func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0) }
	if err = first1(up("lo"), noDAD(), worldSpace.in(noDAD)); err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out"}, PeerName: "in", PeerNamespace: netlink.NsFd(int(worldSpace))}
	if err = netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err = up("out", "198.51.100.1/24", "2001:db8:5::1/64"); err != nil {
		return err
	}
	out, err := netlink.LinkByName("out")
	if err != nil {
		return err
	}
	for _, gone := range []string{"198.51.100.66", "2001:db8:5::66"} {
		n := &netlink.Neigh{LinkIndex: out.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(gone),
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 66}}
		if err = netlink.NeighAdd(n); err != nil {
			return err
		}
	}
	err = worldSpace.in(func() error {
		return first1(
			up("in", "198.51.100.10/24", "2001:db8:5::10/64"),
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0),
			os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0),
			route("198.18.0.0/15", "", unix.RTN_UNREACHABLE),
			route("100.64.9.0/24", "198.51.100.1", unix.RTN_UNICAST),
			route("2001:db8:bad::/48", "", unix.RTN_UNREACHABLE),
		)
	})
	err = first1(err,
		os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0),
		route("203.0.113.0/24", "198.51.100.66", unix.RTN_UNICAST),
		route("2001:db8:dead::/48", "2001:db8:5::66", unix.RTN_UNICAST),
		route("198.18.0.0/15", "198.51.100.10", unix.RTN_UNICAST),
		route("100.64.9.0/24", "198.51.100.10", unix.RTN_UNICAST),
		route("2001:db8:bad::/48", "2001:db8:5::10", unix.RTN_UNICAST),
	)
	// The kernel answers the first IPv6 SYN on a new path a second late.
	for _, addr := range []string{"[2001:db8:5::10]:9", "[2001:db8:bad::1]:9"} {
		if c, e := net.Dial("tcp", addr); e == nil {
			c.Close()
		}
	}
	return err
}

// A bench is a NAT with a kernel on its inner side.
type bench struct {
	t      testing.TB
	nat    *NAT
	inside space
	device *tun.Device
}

func (b *bench) in(f func() error) {
	b.t.Helper()
	if err := b.inside.in(f); err != nil {
		b.t.Fatal(err)
	}
}

// newBench makes a NAT with config c, its own addresses filled in, joins it to a
// TUN device in a fresh namespace, and checks at the end that nothing is left.
func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	return newBenchBehind(t, c, func(p tunnel.Port) tunnel.Port { return p })
}

// newBenchBehind is newBench with something between the device and the NAT: what
// behind makes of the device.
func newBenchBehind(t testing.TB, c Config, behind func(device tunnel.Port) tunnel.Port) *bench {
	t.Helper()
	before := runtime.NumGoroutine()
	filesBefore := openFiles()
	c.DNS, c.Host = []netip.Addr{dns4, dns6}, []netip.Addr{host4, host6}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	nat, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	inside, err := newSpace()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, nat: nat, inside: inside}
	b.in(func() error {
		f, name, err := tun.Create("tun%d")
		if err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(l, c.MTU); err != nil {
			return err
		}
		addrs := []string{"10.0.2.15/24", "fd00:b0d::15/64"}
		if c.MTU < minMTU6 { // the kernel has no IPv6 there
			addrs = addrs[:1]
		}
		if err := up(name, addrs...); err != nil {
			return err
		}
		if b.device, err = tun.Open(f, c.MTU); err != nil {
			return err
		}
		if c.MTU < minMTU6 {
			return routeDev("0.0.0.0/0", name)
		}
		return first1(routeDev("0.0.0.0/0", name), routeDev("::/0", name))
	})
	eventually(t, "the inner IPv6 address to be usable", func() bool {
		return c.MTU < minMTU6 || inside.in(func() error {
			c, err := net.ListenPacket("udp", "[fd00:b0d::15]:0")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
				return err
			}
			c.SetDeadline(time.Now().Add(50 * time.Millisecond))
			_, _, err = c.ReadFrom(make([]byte, 1))
			return err
		}) == nil
	}, func() string { return "" })
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(ctx, behind(b.device), nat) }()
	t.Cleanup(func() {
		cancel()
		if err := <-joined; err != nil && err != context.Canceled {
			t.Errorf("Join: %v", err)
		}
		nat.Close()
		unix.Close(int(inside))
		if s := nat.Stats(); s.TCP+s.UDP+s.Echo+s.Dialing+s.Queries != 0 || s.Buffered != 0 || nat.places.taken.Load() != 0 {
			t.Errorf("after Close: %+v, flows %d", s, nat.places.taken.Load())
		}
		eventually(t, "goroutines and files to go", func() bool {
			return runtime.NumGoroutine() <= before && openFiles() <= filesBefore
		}, func() string {
			buf := make([]byte, 1<<20)
			return fmt.Sprintf("%d goroutines, before %d; %d files, before %d: %q\n%s", runtime.NumGoroutine(), before,
				openFiles(), filesBefore, fileNames(), buf[:runtime.Stack(buf, true)])
		})
	})
	return b
}

// fileNames names the open files.
func fileNames() (names []string) {
	e, _ := os.ReadDir("/proc/self/fd")
	for _, f := range e {
		n, _ := os.Readlink("/proc/self/fd/" + f.Name())
		names = append(names, n)
	}
	return names
}

// openFiles counts the open files, but for the pipes that io.Copy keeps for splice.
func openFiles() (n int) {
	for _, name := range fileNames() {
		if !strings.HasPrefix(name, "pipe:") {
			n++
		}
	}
	return n
}

// eventually waits until ok, for ten seconds at most.
func eventually(t testing.TB, what string, ok func() bool, state func() string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain for %s: %s", what, state())
			return
		}
	}
}

// dial connects from inside. Addresses are written as host:port.
func (b *bench) dial(network, addr string) (c net.Conn, err error) {
	err = b.inside.in(func() error {
		d := net.Dialer{Timeout: 15 * time.Second, KeepAlive: -1}
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// mustDial is dial that ends the test when it fails, and the connection with it.
func (b *bench) mustDial(network, addr string) net.Conn {
	b.t.Helper()
	c, err := b.dial(network, addr)
	if err != nil {
		b.t.Fatalf("dial %s %s: %v", network, addr, err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// serve listens in the world and calls handle for each connection.
func serve(t testing.TB, in space, addr string, handle func(*net.TCPConn)) string {
	t.Helper()
	var l net.Listener
	if err := in.in(func() (err error) { l, err = net.Listen("tcp", addr); return }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// listenUDP opens a UDP socket in the world and calls handle for each datagram.
func listenUDP(t testing.TB, in space, addr string, handle func(c *net.UDPConn, data []byte, from *net.UDPAddr)) string {
	t.Helper()
	var p net.PacketConn
	if err := in.in(func() (err error) { p, err = net.ListenPacket("udp", addr); return }); err != nil {
		t.Fatal(err)
	}
	c := p.(*net.UDPConn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				if strings.Contains(err.Error(), "use of closed") {
					return
				}
				continue
			}
			handle(c, buf[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}
