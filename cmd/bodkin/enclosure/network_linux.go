package enclosure

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The way inner TCP is told what the tunnel is like: as package host does it.
const (
	// rtoMin is the least retransmission timeout of inner TCP. The tunnel loses
	// nothing, but it stands still while the carrier retransmits.
	rtoMin = time.Second

	// flight is the initial window in octets: one super-packet.
	flight = 1 << 16

	// usualWindow is Linux's own initial window in segments (RFC 6928).
	usualWindow = 10
)

// noAddresses is IN6_ADDR_GEN_MODE_NONE: the kernel makes up no link-local address.
const noAddresses = 1

// everything is what goes into the tunnel unless something else is said.
var everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("the loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("the loopback: %w", err)
	}
	return nil
}

// permitPing lets the user open ping sockets (icmp(7), ping_group_range): a network
// namespace begins with nobody. Root permits all groups, a user his own, the only one
// that has a number in his namespace.
func permitPing() error {
	groups := "0 2147483647"
	if os.Geteuid() != 0 {
		groups = fmt.Sprintf("%d %[1]d", os.Getegid())
	}
	return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(groups), 0)
}

// setNetwork gives the device its addresses and routes. There is no other device and
// no other route: what does not go into the tunnel is unreachable.
func setNetwork(device string, s Settings) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("device %s: %w", device, err)
	}
	if err := netlink.LinkSetMTU(link, s.MTU); err != nil {
		return fmt.Errorf("device %s: MTU %d: %w", device, s.MTU, err)
	}
	// A kernel without IPv6 has nothing to set; its addresses then are not set either.
	netlink.LinkSetIP6AddrGenMode(link, noAddresses)
	os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("0"), 0)
	var has4, has6 bool
	for _, p := range s.Addrs {
		err := netlink.AddrAdd(link, address(p))
		if p.Addr().Is6() && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("adding %v to %s: %w", p, device, err)
		}
		has4, has6 = has4 || p.Addr().Is4(), has6 || p.Addr().Is6()
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: up: %w", device, err)
	}
	routes := s.Routes
	if len(routes) == 0 {
		routes = everything
	}
	for _, p := range routes {
		if p.Addr().Is4() && has4 || p.Addr().Is6() && has6 {
			if err := netlink.RouteReplace(into(p, link, s.MTU)); err != nil {
				return fmt.Errorf("route to %v: %w", p, err)
			}
		}
	}
	for _, p := range s.Exclude {
		if p.Addr().Is6() && !has6 {
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(p), Type: unix.RTN_UNREACHABLE}); err != nil {
			return fmt.Errorf("no route to %v: %w", p, err)
		}
	}
	return nil
}

// address is that of the device. Nobody is asked whether it is taken (RFC 4862, section
// 5.4): the tunnel's other end gave it.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: ipNet(p).Mask}}
	if p.Addr().Is4() {
		a.Broadcast = net.IPv4zero // a tunnel has none
	} else {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// into is the route into the tunnel.
func into(p netip.Prefix, link netlink.Link, mtu int) *netlink.Route {
	const headers = 20 + 32 // of IPv4, and of TCP with timestamps
	window := max(usualWindow, (flight+mtu-headers-1)/(mtu-headers))
	r := &netlink.Route{
		Dst: ipNet(p), LinkIndex: link.Attrs().Index,
		RtoMin: int(rtoMin / time.Millisecond), RtoMinLock: true, // heeded only when locked
		InitCwnd: window, InitRwnd: window,
	}
	if p.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
