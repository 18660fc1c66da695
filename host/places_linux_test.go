package host

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A place is another machine: a network namespace with a thread in it.
type place struct {
	t     *testing.T
	calls chan func()
	ns    int // the namespace, open
}

// newPlace makes a machine with a loopback device and IPv6 that needs no time.
func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, calls: make(chan func())}
	made, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread, with its namespace, ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			p.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- err
		for f := range p.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(p.calls)
		<-done
		unix.Close(p.ns)
	})
	p.do(func() error { return furnishNetwork() })
	return p
}

// furnishNetwork brings up the loopback device, and has later ones without what
// takes time.
func furnishNetwork() error {
	lo, err := netlink.LinkByName("lo")
	return errors.Join(err, netlink.LinkSetUp(lo),
		writeSysctl("net/ipv6/conf/default/accept_dad", "0"), writeSysctl("net/ipv6/conf/default/router_solicitations", "0"))
}

// do runs f on the machine, and fails the test with its error.
func (p *place) do(f func() error) {
	p.t.Helper()
	if err := p.try(f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) try(f func() error) error {
	done := make(chan error)
	p.calls <- func() { done <- f() }
	return <-done
}

// run runs a program on the machine; its error has what it printed.
func (p *place) run(name string, args ...string) error {
	return p.try(func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
}

// cable connects two machines; nil is the test's own. Each end gets its addresses.
func cable(t *testing.T, a *place, aName string, aAddrs []netip.Prefix, b *place, bName string, bAddrs []netip.Prefix) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one-end"}, PeerName: "far-end"}))
	for _, end := range []struct {
		at        *place
		now, name string
		addrs     []netip.Prefix
	}{{b, "far-end", bName, bAddrs}, {a, "one-end", aName, aAddrs}} {
		up := func() error {
			link, err := netlink.LinkByName(end.now)
			err = errors.Join(err, netlink.LinkSetName(link, end.name))
			for _, p := range end.addrs {
				addr := &netlink.Addr{IPNet: ipNet(p)}
				if p.Addr().Is6() {
					addr.Flags = unix.IFA_F_NODAD
				}
				err = errors.Join(err, netlink.AddrAdd(link, addr))
			}
			return errors.Join(err, netlink.LinkSetUp(link))
		}
		if end.at == nil {
			must(up())
			continue
		}
		must(netlink.LinkSetNsFd(linkNamed(t, end.now), end.at.ns))
		end.at.do(up)
	}
	// The kernel gives both their addresses of the link when it sees that they are connected.
	must(furnished(aName, a))
	must(furnished(bName, b))
}

// furnished waits until the machine's device has all that the kernel gives it by itself.
func furnished(name string, at *place) error {
	has := func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil || slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.IsLinkLocalUnicast() }) {
			return err
		}
		return fmt.Errorf("%s has no address of the link", name)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		var err error
		if at == nil {
			err = has()
		} else {
			err = at.try(has)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// route gives the machine a route through a gateway.
func (p *place) route(to, via string) {
	p.t.Helper()
	p.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipNet(mustPrefix(to)), Gw: netip.MustParseAddr(via).AsSlice()})
	})
}

// joinTuns carries packets between two tunnel devices until one is closed.
func joinTuns(t *testing.T, a, b *tun) {
	t.Helper()
	var wg sync.WaitGroup
	for _, way := range [][2]*tun{{a, b}, {b, a}} {
		wg.Go(func() {
			packet := make([]byte, 1<<16)
			for {
				n, err := way[0].Read(packet)
				if err != nil {
					return
				}
				way[1].Write(packet[:n]) // a device that is down drops it
			}
		})
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
		wg.Wait()
	})
}

// ping asks once, and reports whether an answer came within the time.
func (p *place) ping(to string, wait time.Duration) bool {
	return p.run("ping", "-n", "-c", "1", "-W", fmt.Sprintf("%.3f", wait.Seconds()), to) == nil
}

// echo serves TCP on the machine; what it reads it sends back, after the
// client's address and a newline.
func (p *place) echo(at string) {
	p.t.Helper()
	var l net.Listener
	p.do(func() (err error) { l, err = net.Listen("tcp", at); return err })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, c.RemoteAddr())
			c.SetDeadline(time.Now().Add(patient))
			io.Copy(c, c)
			c.Close()
		}
	}()
	p.t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// call connects to an echo server from the port, 0 for any, and returns what it
// says about who called.
func (p *place) call(to string, port int, wait time.Duration) (who string, err error) {
	err = p.try(func() error {
		d := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{Port: port}, Control: reuse}
		c, err := d.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patient))
		b := make([]byte, 128)
		n, err := c.Read(b)
		who = strings.TrimSpace(string(b[:n]))
		return err
	})
	return who, err
}

// reuse lets a port be used again whose last connection has just ended.
func reuse(_, _ string, c syscall.RawConn) error {
	var err error
	failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(failed, err)
}
