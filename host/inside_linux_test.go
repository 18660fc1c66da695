package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A way out is a network that the machine may be in, with a gateway that leads to
// the server.
type wayOut struct {
	gateway    *place
	ours, gate []netip.Prefix // each for IPv4 and IPv6
}

// inside are the addresses of the tunnel's server, and the prefixes that go
// through the tunnel with it.
var inside = []struct{ server, prefix, around string }{
	{"10.9.9.9", "10.0.0.0/8", "10.9.0.0/16"},
	{"fd0a:9::9", "fd0a::/16", "fd0a:9::/32"},
}

// newWayOut makes the network, and the server behind its gateway.
func newWayOut(t *testing.T, device string, ours, gate []netip.Prefix) *wayOut {
	t.Helper()
	w := &wayOut{newPlace(t), ours, gate}
	cable(t, nil, device, ours, w.gateway, "eth0", gate)
	w.gateway.do(func() error {
		lo, err := netlink.LinkByName("lo")
		for n, i := range inside {
			a, flags := netip.MustParseAddr(i.server), []int{0, unix.IFA_F_NODAD}[n]
			err = errors.Join(err, netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())), Flags: flags}))
		}
		return err
	})
	for _, i := range inside {
		w.gateway.echo(joined(i.server, 22))
	}
	return w
}

// use makes it the machine's way, in the place of any other.
func (w *wayOut) use(t *testing.T) {
	t.Helper()
	for i, f := range families {
		r := &netlink.Route{Dst: ipNet(everything(f)), Gw: w.gate[i].Addr().AsSlice(), Family: f}
		if err := netlink.RouteReplace(r); err != nil {
			t.Fatal(err)
		}
	}
}

// callServer connects to the server, and returns the address that it was called
// from.
func callServer(server string, mark uint32, wait time.Duration) (netip.Addr, error) {
	d := net.Dialer{Timeout: wait}
	if mark != 0 {
		d.Control = Marked(mark)
	}
	c, err := d.Dial("tcp", joined(server, 22))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return netip.MustParseAddrPort(c.LocalAddr().String()).Addr(), nil
}

// The tunnel's server lies inside what goes through the tunnel: the carrier goes
// to it by the machine's own way, whichever that is at the time, and nothing else
// does unless it was excluded.
func TestServerInside(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	ways := []*wayOut{
		newWayOut(t, "eth0", prefixes("192.0.2.10/24", "2001:db8:1::10/64"), prefixes("192.0.2.1/24", "2001:db8:1::1/64")),
		newWayOut(t, "wlan0", prefixes("198.51.100.10/24", "2001:db8:2::10/64"), prefixes("198.51.100.1/24", "2001:db8:2::1/64")),
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	const owner = 1000
	far := func(s string) netip.AddrPort { return netip.MustParseAddrPort(joined(s, 22)) }
	for _, c := range []struct {
		name    string
		wish    func(w *Wish, server string)
		exclude bool
		marked  bool // the carrier's socket is
		uid     int  // whose other connections go along; -1: everybody's, 0: nobody's
	}{
		{"marked", func(w *Wish, s string) { w.Carrier = append(w.Carrier, far(s)) }, false, true, 0},
		{"pinned for a user", func(w *Wish, s string) { w.Pins = append(w.Pins, Pin{far(s), owner}) }, false, false, owner},
		{"pinned for everybody", func(w *Wish, s string) { w.Pins = append(w.Pins, Pin{far(s), -1}) }, false, false, -1},
		{"marked, and its network excluded", func(w *Wish, s string) { w.Carrier = append(w.Carrier, far(s)) }, true, true, -1},
		{"pinned, and its network excluded", func(w *Wish, s string) { w.Pins = append(w.Pins, Pin{far(s), owner}) }, true, false, -1},
	} {
		for _, filter := range []string{"0", "1", "2"} {
			t.Run(fmt.Sprintf("%s, rp_filter %s", c.name, filter), func(t *testing.T) {
				if err := writeSysctl("net/ipv4/conf/all/rp_filter", filter); err != nil {
					t.Fatal(err)
				}
				w := fullWish()
				w.Addrs = prefixes("172.31.7.2/30", "fd62::2/64")
				w.DNS, w.Routes, w.Carrier = DNS{}, nil, nil
				for _, i := range inside {
					w.Routes = append(w.Routes, mustPrefix(i.prefix))
					if c.exclude {
						w.Exclude = append(w.Exclude, mustPrefix(i.around))
					}
					c.wish(&w, i.server)
				}
				ways[0].use(t)
				before := snapshot(t)
				s, err := Set(w, dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, way := range ways {
					way.use(t)
					for n, i := range inside {
						var from netip.Addr
						carrier := func() (err error) { from, err = callServer(i.server, s.Mark(), patient); return err }
						if !c.marked {
							carrier = func() error {
								return as(owner, func() (err error) { from, err = callServer(i.server, 0, patient); return err })
							}
						}
						if err := carrier(); err != nil || from != way.ours[n].Addr() {
							t.Errorf("the carrier comes from %v, want %v: %v", from, way.ours[n].Addr(), err)
						}
						for _, uid := range []int{owner, owner + 1} {
							err := as(uid, func() error { _, err := callServer(i.server, 0, soon); return err })
							if along := c.uid == -1 || c.uid == uid; along != (err == nil) {
								t.Errorf("user %d, not the carrier: %v, want to get there: %v", uid, err, along)
							}
						}
						if dev := routeTo(t, netip.MustParseAddr(i.server).Next().String(), 0); (dev == "bodkin0") == c.exclude {
							t.Errorf("the server's neighbour is reached by %s", dev)
						}
					}
				}
				ways[0].use(t)
				if err := s.Undo(); err != nil {
					t.Fatal(err)
				}
				sameAs(t, before)
			})
		}
	}
}
