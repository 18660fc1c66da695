package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbours neither find the tunnel's address nor learn whether it talks to
// somebody (CVE-2019-14899), whatever rp_filter says.
func TestNeighbours(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, peer := newEth(t)
	newTun(t, "bodkin0")
	o := newOracle(t, peer)
	mac := eth.Attrs().HardwareAddr
	addr := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	// The lures answer: they show that the oracle hears an answer when there is one.
	ask := func(mark uint32, own4, own6 string) (arp, tcp int) {
		o.send(t, arpQuestion(mac, addr("192.0.2.1"), addr(own4)))
		o.send(t, synAckFrame(mac, netip.MustParseAddrPort("192.0.2.1:443"), netip.AddrPortFrom(addr(own4), 40000)))
		o.send(t, synAckFrame(mac, netip.MustParseAddrPort("[2001:db8:1::1]:443"), netip.AddrPortFrom(addr(own6), 40000)))
		if err := say(joined("203.0.113.200", 9), endOfProbes, mark); err != nil {
			t.Fatal(err)
		}
		for _, f := range o.until(t, endOfProbes) {
			switch {
			case f[12] == 8 && f[13] == 6 && f[21] == 2:
				arp++
			case meets(f, addr(own4)) || meets(f, addr(own6)):
				tcp++
			}
		}
		return arp, tcp
	}
	if arp, tcp := ask(firstMark, "192.0.2.10", "2001:db8:1::10"); arp != 1 || tcp != 2 {
		t.Fatalf("the lures: %d answers to ARP and %d to TCP, want 1 and 2", arp, tcp)
	}
	dir := journals(t)
	for _, filter := range []string{"0", "1", "2"} {
		for _, dev := range []string{"all", "eth0", "bodkin0"} {
			if err := writeSysctl("net/ipv4/conf/"+dev+"/rp_filter", filter); err != nil {
				t.Fatal(err)
			}
		}
		// A full tunnel swallows the answers anyway; a split one would not.
		for _, routes := range [][]netip.Prefix{prefixes("0.0.0.0/0", "::/0"), prefixes("198.51.100.0/24")} {
			w := fullWish()
			w.Routes = routes
			s, err := Set(w, dir)
			if err != nil {
				t.Fatal(err)
			}
			snapshotUp(t)
			if arp, tcp := ask(s.Mark(), "10.0.2.15", "fd00:2::15"); arp != 0 || tcp != 0 {
				t.Errorf("rp_filter %s, %v: %d answers to ARP and %d to TCP", filter, routes, arp, tcp)
			}
			if err := s.Undo(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A router's "fragmentation needed" reaches the carrier's socket under a strict
// reverse path filter: the carrier's path MTU discovery works beside the tunnel.
func TestPathMTU(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, peer := newEth(t)
	o := newOracle(t, peer)
	newTun(t, "bodkin0")
	if err := writeSysctl("net/ipv4/conf/all/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	d := net.Dialer{Control: Marked(s.Mark())}
	c, err := d.Dial("udp", "203.0.113.7:22")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("too large")); err != nil {
		t.Fatal(err)
	}
	if err := say(joined("203.0.113.200", 9), endOfProbes, s.Mark()); err != nil {
		t.Fatal(err)
	}
	for _, f := range o.until(t, endOfProbes) {
		if bytes.Contains(f, []byte("too large")) {
			icmp := []byte{3, 4, 0, 0, 0, 0, 1300 >> 8, 1300 & 0xff} // RFC 1191, section 4
			icmp = append(icmp, f[14:14+28]...)
			binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
			o.send(t, ipv4Frame(eth.Attrs().HardwareAddr, netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.10"), unix.IPPROTO_ICMP, icmp))
		}
	}
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mtu := 0
	for deadline := time.Now().Add(2 * time.Second); mtu != 1300 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if mtu != 1300 {
		t.Errorf("the path MTU is %d, the router said 1300", mtu)
	}
}

// The far side's router advertisements give the machine neither route nor
// address.
func TestRouterAdvertisement(t *testing.T) {
	if !alone(t) {
		return
	}
	d := newTun(t, "bodkin0")
	w := fullWish()
	w.DNS = DNS{}
	s, err := Set(w, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	router, all := netip.MustParseAddr("fe80::666"), netip.MustParseAddr("ff02::1")
	advertise := func(prefix byte) {
		t.Helper()
		ra := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}             // RFC 4861, section 4.2
		ra = append(ra, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0)         // section 4.6.2
		ra = append(append(ra, 0x20, 1, 0xd, 0xb8, 0, prefix), make([]byte, 10)...) // 2001:db8:N::/64
		f := ipFrame(make([]byte, 6), router, all, unix.IPPROTO_ICMPV6, ra, 2)[14:]
		f[7] = 255 // section 6.1.2
		if _, err := d.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	advertise(1)
	if after := snapshot(t); strings.Contains(after, "fe80::666") || strings.Contains(after, "2001:db8:1:") {
		t.Error("the far side's advertisement was heeded")
	}
	// Where it is allowed by hand, the same advertisement is heeded: it is a good one.
	if err := writeSysctl("net/ipv6/conf/bodkin0/accept_ra", "2"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Second); !strings.Contains(snapshot(t), "fe80::666"); {
		if time.Now().After(deadline) {
			t.Fatal("the test's advertisement is not a good one")
		}
		advertise(2)
	}
	if strings.Contains(snapshot(t), "2001:db8:1:") {
		t.Error("the first advertisement was heeded, late")
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
}

// servers listen on port 22, once newServers was called.
var servers = []string{"203.0.113.7", "2001:db8:7::7"}

// newServers gives the machine a network with a real machine at the other end of
// its cable.
func newServers(t *testing.T) {
	t.Helper()
	_, peer := newEth(t)
	for _, gw := range []string{"192.0.2.1", "2001:db8:1::1"} {
		n := &netlink.Neigh{LinkIndex: linkNamed(t, "eth0").Attrs().Index, IP: netip.MustParseAddr(gw).AsSlice()}
		if err := netlink.NeighDel(n); err != nil { // there is a real one now
			t.Fatal(err)
		}
	}
	beyond(t, peer, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := writeSysctl("net/ipv6/conf/peer/disable_ipv6", "0"); err != nil {
			return err
		}
		for _, l := range []netlink.Link{lo, peer} {
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		for a, l := range map[string]netlink.Link{"192.0.2.1/24": peer, "2001:db8:1::1/64": peer, servers[0] + "/32": lo, servers[1] + "/128": lo} {
			addr := &netlink.Addr{IPNet: ipNet(mustPrefix(a))}
			if mustPrefix(a).Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		for _, s := range servers {
			l, err := net.Listen("tcp", joined(s, 22))
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return nil
	})
}

// What must not get through is given up soon; what must get through is not.
const soon, patient = 50 * time.Millisecond, 5 * time.Second

func dial(to string, mark uint32, wait time.Duration) error {
	d := net.Dialer{Timeout: wait}
	if mark != 0 {
		d.Control = Marked(mark)
	}
	c, err := d.Dial("tcp", to)
	if err == nil {
		c.Close()
	}
	return err
}

// The carrier's connections live beside a full tunnel under every reverse path
// filter: marked ones, and pinned ones of one user.
func TestCarrier(t *testing.T) {
	if !alone(t) {
		return
	}
	newServers(t)
	newTun(t, "bodkin0")
	dir := journals(t)
	for _, s := range servers {
		if err := dial(joined(s, 22), 0, patient); err != nil {
			t.Fatalf("without a tunnel: %v", err)
		}
	}
	for _, filter := range []string{"0", "1", "2"} {
		for _, routes := range [][]netip.Prefix{prefixes("0.0.0.0/0", "::/0"), prefixes("::/0")} {
			t.Run(fmt.Sprintf("rp_filter %s %v", filter, routes), func(t *testing.T) {
				if err := writeSysctl("net/ipv4/conf/all/rp_filter", filter); err != nil {
					t.Fatal(err)
				}
				w := fullWish()
				w.Routes = routes
				w.Carrier = nil
				for _, s := range servers {
					w.Carrier = append(w.Carrier, netip.MustParseAddrPort(joined(s, 22)))
				}
				before := snapshot(t)
				s, err := Set(w, dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, server := range servers {
					if err := dial(joined(server, 22), s.Mark(), patient); err != nil {
						t.Errorf("marked: %v", err)
					}
					if dial(joined(server, 22), 0, soon) == nil {
						t.Errorf("unmarked to %s: goes around the tunnel", server)
					}
				}
				if err := s.Undo(); err != nil {
					t.Fatal(err)
				}
				sameAs(t, before)

				w.Pins, w.Carrier = nil, nil
				for _, server := range servers {
					w.Pins = append(w.Pins, Pin{netip.MustParseAddrPort(joined(server, 22)), 1000})
				}
				if s, err = Set(w, dir); err != nil {
					t.Fatal(err)
				}
				for _, server := range servers {
					if err := as(1000, func() error { return dial(joined(server, 22), 0, patient) }); err != nil {
						t.Errorf("pinned: %v", err)
					}
					if as(1001, func() error { return dial(joined(server, 22), 0, soon) }) == nil {
						t.Errorf("another user's to %s: goes around the tunnel", server)
					}
					if as(1000, func() error { return dial(joined(server, 23), 0, soon) }) == nil {
						t.Errorf("another port of %s: goes around the tunnel", server)
					}
				}
				if err := s.Undo(); err != nil {
					t.Fatal(err)
				}
				sameAs(t, before)
			})
		}
	}
}

// Without nftables the carrier lives too, and the notes say at what price.
func TestCarrierWithoutFilter(t *testing.T) {
	if !alone(t) {
		return
	}
	newServers(t)
	newTun(t, "bodkin0")
	hasNFT = func() bool { return false }
	if err := writeSysctl("net/ipv4/conf/all/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	w := fullWish()
	for _, s := range servers[1:] {
		w.Carrier = append(w.Carrier, netip.MustParseAddrPort(joined(s, 22)))
	}
	before := snapshot(t)
	s, err := Set(w, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range servers {
		if err := dial(joined(server, 22), s.Mark(), patient); err != nil {
			t.Errorf("marked: %v", err)
		}
		if as(1000, func() error { return dial(joined(server, 22), 0, soon) }) == nil {
			t.Errorf("a user's, unmarked, to %s: goes around the tunnel", server)
		}
	}
	if n := strings.Join(s.Notes(), "\n"); !strings.Contains(n, "no nftables") || !strings.Contains(n, "root's own connections") {
		t.Errorf("notes: %q", n)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// as runs f, and what sockets it makes, as another user.
func as(uid int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}
