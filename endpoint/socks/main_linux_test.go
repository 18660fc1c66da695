package socks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/tunnel"
)

// The tests run in a network namespace of their own, in which programs, the proxy,
// the far side's NAT and the world are. The tunnel between the two is in memory.
//
//	program --- proxy 10.0.2.15, fd00:b0d::15 ===== NAT --- 198.51.100.10, 2001:db8:5::10
//
// From the NAT, 192.0.2.9 answers nothing, 198.18.0.0/15 is unreachable and
// 198.19.0.0/16 prohibited; the proxy's host could reach the world itself, and a test
// says when it does.
const movedEnv = "SOCKS_TEST_IN_NAMESPACE"

const (
	world4, world6 = "198.51.100.10", "2001:db8:5::10"
	silent4        = "192.0.2.9"
	nowhere4       = "198.18.0.1"
	forbidden4     = "198.19.0.1"
)

func TestMain(m *testing.M) {
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run()) // fuzz targets need no network, and workers no move
		}
	}
	if os.Getenv(movedEnv) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fmt.Fprintf(os.Stderr, "socks tests make network namespaces and need root: unshare: %v\n", err)
			os.Exit(1)
		}
		err := syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), movedEnv+"=1"))
		fmt.Fprintln(os.Stderr, "exec:", err)
		os.Exit(1)
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "socks tests: building the network:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func build() error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "void"}, PeerName: "end"}); err != nil {
		return err
	}
	for name, addrs := range map[string][]string{
		"lo":   {world4 + "/32", world6 + "/128"},
		"void": {"192.0.2.1/24"},
		"end":  nil,
	} {
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
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	void, err := netlink.LinkByName("void")
	if err != nil {
		return err
	}
	gone := &netlink.Neigh{LinkIndex: void.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(silent4),
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 66}}
	if err := netlink.NeighAdd(gone); err != nil {
		return err
	}
	for dst, kind := range map[string]int{"198.18.0.0/15": unix.RTN_UNREACHABLE, "198.19.0.0/16": unix.RTN_PROHIBIT} {
		_, n, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: n, Type: kind}); err != nil {
			return fmt.Errorf("%s: %w", dst, err)
		}
	}
	return nil
}

// A bench is a proxy with a NAT at the far side of its tunnel.
type bench struct {
	t     testing.TB
	proxy *Proxy
	nat   *usernat.NAT
	addr  string // of the proxy
}

func newBench(t testing.TB, c Config) *bench {
	t.Helper()
	before, files := runtime.NumGoroutine(), openFiles()
	dns := netip.MustParseAddr("10.0.2.3")
	nat, err := usernat.New(usernat.Config{
		MTU: 65535, DNS: []netip.Addr{dns}, Host: []netip.Addr{netip.MustParseAddr("10.0.2.2")},
		Peer:      []netip.Prefix{netip.MustParsePrefix("10.0.2.15/32"), netip.MustParsePrefix("fd00:b0d::15/128")},
		Allow:     usernat.Policy{Host: true}, // the world is this host
		Resolvers: func() []netip.AddrPort { return []netip.AddrPort{resolverAddr(t)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Local = []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("fd00:b0d::15/64")}
	c.DNS, c.MTU = []netip.Addr{dns}, 65535
	if len(c.Listen) == 0 {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan error, 1)
	go func() { joined <- tunnel.Join(ctx, p, nat) }()
	t.Cleanup(func() {
		cancel()
		if err := <-joined; err != context.Canceled {
			t.Errorf("Join: %v", err)
		}
		if s := p.Stats(); s.Connections+s.Associations+s.Buffered != 0 {
			t.Errorf("after Close: %+v", s)
		}
		eventually(t, "goroutines and files to go", func() bool {
			return runtime.NumGoroutine() <= before && openFiles() <= files
		}, func() string {
			buf := make([]byte, 1<<20)
			return fmt.Sprintf("%d goroutines, before %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		})
	})
	return &bench{t: t, proxy: p, nat: nat, addr: p.Addr()[0].String()}
}

// openFiles counts the open files, but for the pipes that splice keeps.
func openFiles() (n int) {
	e, _ := os.ReadDir("/proc/self/fd")
	for _, f := range e {
		if name, _ := os.Readlink("/proc/self/fd/" + f.Name()); !strings.HasPrefix(name, "pipe:") {
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
			t.Fatalf("waited in vain for %s: %s", what, state())
		}
	}
}

var resolver atomic.Pointer[net.UDPConn]

// resolverAddr returns where the far side's resolver is, and starts it.
func resolverAddr(t testing.TB) netip.AddrPort {
	if c := resolver.Load(); c != nil {
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	t.Fatal("the test has no resolver")
	return netip.AddrPort{}
}

// names are what the far side's resolver knows.
var names = map[string][]string{
	"www.test.":    {world4, world6},
	"four.test.":   {world4},
	"six.test.":    {world6},
	"loop.test.":   {"127.0.0.1", "::1"},
	"meta.test.":   {"169.254.169.254"},
	"slow.test.":   {silent4, world4},
	"silent.test.": {silent4},
}

// newResolver starts the far side's resolver for the test.
func newResolver(t testing.TB) {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	resolver.Store(c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			list, known := names[q.Name.String()]
			m.Response, m.Additionals = true, nil
			if !known {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, a := range list {
				ip := netip.MustParseAddr(a)
				h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
				switch {
				case q.Type == dnsmessage.TypeA && ip.Is4():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
				case q.Type == dnsmessage.TypeAAAA && ip.Is6():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
				}
			}
			if a, err := m.Pack(); err == nil {
				c.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done; resolver.Store(nil) })
}

// serve listens at host in the world and calls handle for each connection.
func serve(t testing.TB, host string, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
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
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echo sends back what comes, until its end.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.Close()
}

// dialProxy connects to the proxy; the connection ends with the test.
func (b *bench) dialProxy() *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// ask sends octets and returns the first n of the answer, fewer if it ends before.
func ask(t testing.TB, c net.Conn, send []byte, n int) []byte {
	t.Helper()
	if _, err := c.Write(send); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	k, err := io.ReadFull(c, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %x: %v", b[:k], err)
	}
	return b[:k]
}

// request5 is the request of SOCKS 5 for "host:port", after a greeting without
// authentication.
func request5(t testing.TB, command byte, target string) []byte {
	t.Helper()
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{version5, 1, methodNone, version5, command, 0}
	if a, err := netip.ParseAddr(host); err == nil {
		return appendAddrPort(b, netip.AddrPortFrom(a, uint16(n)))
	}
	b = append(append(b, typeName, byte(len(host))), host...)
	return append(b, byte(n>>8), byte(n))
}

// connect5 connects by SOCKS 5 and returns the connection and the reply's code.
func (b *bench) connect5(target string) (*net.TCPConn, byte) {
	b.t.Helper()
	c := b.dialProxy()
	a := ask(b.t, c, request5(b.t, commandConnect, target), 2+4+4+2)
	if len(a) < 4 || !bytes.Equal(a[:3], []byte{version5, methodNone, version5}) {
		b.t.Fatalf("%s: answered %x", target, a)
	}
	if a[2+3] == typeIPv6 {
		ask(b.t, c, nil, 12)
	}
	return c, a[3]
}
