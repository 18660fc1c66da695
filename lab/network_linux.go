package lab

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An end is one end of a cable: a device of a machine and its addresses.
type end struct {
	machine *Machine
	device  string
	addrs   []netip.Prefix
}

// A route of a machine.
type route struct {
	machine *Machine
	dst     string // prefix
	via     netip.Addr
}

// connect makes the cables, the addresses and the routes.
func (l *Lab) connect(ctx context.Context) error {
	for _, m := range l.machines() {
		if err := m.Do(func() error { return l.setSysctls(m) }); err != nil {
			return fmt.Errorf("lab: %s: setting sysctls: %w", m.Name, err)
		}
		if err := m.linkUp("lo"); err != nil {
			return err
		}
	}
	ends, routes := l.topology()
	wires := map[int]**Shaper{0: &l.Wire}
	if l.options.Direct {
		wires[len(ends)] = &l.DirectWire
		ends = append(ends, [2]end{{l.Laptop, "bench0", nets(DirectLaptop4, 30)}, {l.Internet, "bench0", nets(DirectInternet4, 30)}})
	}
	for i, e := range ends {
		wire, shaped := wires[i]
		if !shaped || !l.options.Shaped {
			if err := cable(ctx, e[0], e[1]); err != nil {
				return err
			}
			continue
		}
		s, err := shapedCable(ctx, e[0], e[1])
		if err != nil {
			return err
		}
		*wire = s
	}
	if l.Corp != nil {
		if err := l.Corp.addHosts("eth0", nets(Corp4, 32, Corp6, 128, CorpDNS4, 32, CorpDNS6, 128)); err != nil {
			return err
		}
	}
	hosts := nets(Web4, 32, Web6, 128, DNS4, 32, DNS6, 128, Hole4, 32, Hole6, 128, Office4, 32, Office6, 128)
	if err := l.Internet.addHosts("eth0", hosts); err != nil {
		return err
	}
	for _, r := range routes {
		if err := r.add(); err != nil {
			return err
		}
	}
	if l.options.Rate > 0 {
		for _, e := range ends[0] {
			if err := e.machine.slow(e.device, l.options.Rate); err != nil {
				return err
			}
		}
	}
	return nil
}

// topology is the cables and the routes. The laptop's cable comes first.
func (l *Lab) topology() (ends [][2]end, routes []route) {
	ends = [][2]end{
		{{l.Laptop, "eth0", nets(Laptop4, 24, Laptop6, 64)}, {l.Firewall, "eth0", nets(FirewallInside4, 24, FirewallInside6, 64)}},
		{{l.Firewall, "eth1", nets(firewallOut4, 24, firewallOut6, 64)}, {l.Gateway, "eth0", nets(Gateway4, 24, Gateway6, 64)}},
	}
	routes = []route{{l.Laptop, "0.0.0.0/0", FirewallInside4}, {l.Laptop, "::/0", FirewallInside6}}
	if l.options.Corp == CorpAroundGateway {
		ends[1][1].addrs = append(ends[1][1].addrs, nets(CorpGateway4, 32, CorpGateway6, 128)...)
		return append(ends,
				[2]end{{l.Firewall, "eth2", nets(firewallInternet4, 24, firewallInternet6, 64)}, {l.Internet, "eth0", nets(internet4, 24, internet6, 64)}},
				[2]end{{l.Gateway, "eth1", nets(corpInside4, 16, corpInside6, 64)}, {l.Corp, "eth0", nets(corp4, 16, corp6, 64)}},
			), append(routes,
				route{l.Internet, "192.0.2.0/24", firewallInternet4},
				route{l.Internet, "2001:db8:1::/64", firewallInternet6},
				route{l.Firewall, CorpGateway4.String() + "/32", Gateway4},
				route{l.Firewall, CorpGateway6.String() + "/128", Gateway6},
				route{l.Gateway, "0.0.0.0/0", firewallOut4},
				route{l.Gateway, "::/0", firewallOut6},
				route{l.Corp, "0.0.0.0/0", corpInside4},
				route{l.Corp, "::/0", corpInside6},
			)
	}
	// The internet has no way back to the laptop: only the gateway speaks for it.
	ends = append(ends, [2]end{{l.Gateway, "eth1", nets(GatewayOut4, 24, GatewayOut6, 64)}, {l.Internet, "eth0", nets(internet4, 24, internet6, 64)}})
	routes = append(routes,
		route{l.Gateway, "192.0.2.0/24", firewallOut4},
		route{l.Gateway, "2001:db8:1::/64", firewallOut6},
		route{l.Gateway, "0.0.0.0/0", internet4},
		route{l.Gateway, "::/0", internet6},
		route{l.Firewall, "0.0.0.0/0", Gateway4},
		route{l.Firewall, "::/0", Gateway6},
	)
	if l.options.Corp == CorpAroundLaptop {
		ends = append(ends, [2]end{{l.Firewall, "eth2", nets(corpFirewall4, 16, corpFirewall6, 64)}, {l.Corp, "eth0", nets(corp4, 16, corp6, 64)}})
		routes = append(routes, route{l.Corp, "0.0.0.0/0", corpFirewall4}, route{l.Corp, "::/0", corpFirewall6})
	}
	return ends, routes
}

// setSysctls sets what a new namespace has otherwise than a Debian machine, or
// takes from the real one, before any device is made: devices copy "default".
func (l *Lab) setSysctls(m *Machine) error {
	filter, forwarding := "0", "0"
	if m == l.Laptop {
		filter = l.options.RPFilter.sysctl()
	}
	if m == l.Firewall || m == l.Internet {
		forwarding = "1"
	}
	settings := []struct{ name, value string }{
		{"net/ipv4/ip_forward", forwarding}, // first: it resets others
		{"net/ipv6/conf/all/forwarding", forwarding},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", filter},
		{"net/ipv4/conf/lo/rp_filter", filter},
		{"net/ipv4/ping_group_range", "0 2147483647"}, // systemd's 50-default.conf
	}
	if m == l.Internet { // a test that provokes many errors in a row sees all of them
		settings = append(settings, []struct{ name, value string }{
			{"net/ipv4/icmp_ratelimit", "0"},
			{"net/ipv6/icmp/ratelimit", "0"},
		}...)
	}
	for _, which := range []string{"all", "default"} {
		settings = append(settings, []struct{ name, value string }{
			{"net/ipv6/conf/" + which + "/disable_ipv6", "0"},
			{"net/ipv6/conf/" + which + "/accept_dad", "0"},
			{"net/ipv6/conf/" + which + "/dad_transmits", "0"},
			{"net/ipv6/conf/" + which + "/accept_ra", "0"},
			{"net/ipv6/conf/" + which + "/autoconf", "0"},
			{"net/ipv6/conf/" + which + "/router_solicitations", "0"},
		}...)
	}
	for _, s := range settings {
		if err := setSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

// nets makes prefixes of addresses and lengths by turns.
func nets(pairs ...any) []netip.Prefix {
	var ps []netip.Prefix
	for i := 0; i < len(pairs); i += 2 {
		ps = append(ps, netip.PrefixFrom(pairs[i].(netip.Addr), pairs[i+1].(int)))
	}
	return ps
}

// cable joins two machines by a pair of devices, and returns when both are up.
func cable(ctx context.Context, a, b end) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.device
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.device, PeerNamespace: netlink.NsFd(b.machine.ns.net)}
	if err := a.machine.netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: joining %s to %s: %w", a.machine.Name, b.machine.Name, err)
	}
	ends := []end{a, b}
	for _, e := range ends {
		if err := e.machine.linkUp(e.device); err != nil {
			return err
		}
	}
	for _, e := range ends {
		if err := e.machine.awaitLink(ctx, e.device, linkRunning); err != nil {
			return err
		}
		if err := e.machine.addAddrs(e.device, e.addrs); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) linkUp(device string) error {
	link, err := m.netlink.LinkByName(device)
	if err == nil {
		err = m.netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("lab: %s: setting %s up: %w", m.Name, device, err)
	}
	return nil
}

// addAddrs gives a device its own addresses.
func (m *Machine) addAddrs(device string, addrs []netip.Prefix) error {
	return m.addAddresses(device, addrs, 0)
}

// addHosts gives a device the addresses of hosts that it stands for: deprecated
// ones (RFC 4862, section 5.5.4), so that it does not speak from them unasked.
func (m *Machine) addHosts(device string, addrs []netip.Prefix) error {
	return m.addAddresses(device, addrs, math.MaxUint32)
}

// addAddresses adds addresses. Other than 0, valid is for how long, in seconds,
// with no time preferred; MaxUint32 is for ever.
func (m *Machine) addAddresses(device string, addrs []netip.Prefix, valid int) error {
	link, err := m.netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("lab: %s: finding %s: %w", m.Name, device, err)
	}
	for _, p := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(p), ValidLft: valid}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := m.netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("lab: %s: adding %v to %s: %w", m.Name, p, device, err)
		}
		if p.Addr().Is6() {
			if err := m.awaitAddr(context.Background(), p.Addr()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r route) add() error {
	_, dst, err := net.ParseCIDR(r.dst)
	if err != nil {
		return err
	}
	if err := r.machine.netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: r.via.AsSlice()}); err != nil {
		return fmt.Errorf("lab: %s: routing %s via %v: %w", r.machine.Name, r.dst, r.via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// slow limits what device sends. The queue holds 50 ms, as a home router's might;
// a super-packet must fit in the bucket.
func (m *Machine) slow(device string, bitsPerSecond int64) error {
	link, err := m.netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("lab: %s: finding %s: %w", m.Name, device, err)
	}
	rate := uint64(bitsPerSecond / 8)
	const bucket = 16 << 10
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Limit:      uint32(rate/20) + bucket,
		Buffer:     netlink.Xmittime(rate, bucket),
	}
	if err := m.netlink.QdiscAdd(tbf); err != nil {
		return fmt.Errorf("lab: %s: limiting %s: %w", m.Name, device, err)
	}
	return nil
}
