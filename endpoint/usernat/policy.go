package usernat

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Policy opens what is closed by default, and closes what is open.
//
// Closed by default are the host's loopback, its own addresses, link-local
// addresses with the clouds' metadata services, and, always, what is not a
// unicast address: multicast, broadcast, unspecified. Private networks (RFC
// 1918, RFC 4193) are open, since the tool is a VPN besides. The same rules hold
// for TCP, UDP and ICMP echo, and for an IPv4 address however it is dressed:
// NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible (RFC 4291, section 2.5.5).
//
// A rule with ports speaks of TCP and UDP alone: as Only it lets no ping through, as
// Deny it stops none.
type Policy struct {
	Host      bool   // the host's loopback by way of Config.Host, and its own addresses
	LinkLocal bool   // 169.254.0.0/16, fe80::/10 and the metadata address fd00:ec2::254
	Open      []Rule // opens the part of these that is closed by default; the loopback is named as 127.0.0.1, ::1 or its alias
	Only      []Rule // when not empty, nothing outside these; it opens nothing by itself
	Deny      []Rule // nothing inside these, whatever else is said
}

var (
	thisNetwork   = netip.MustParsePrefix("0.0.0.0/8")      // RFC 1122, section 3.2.1.3: Linux takes 0.0.0.0 for itself
	reserved      = netip.MustParsePrefix("240.0.0.0/4")    // RFC 1112, section 4; holds 255.255.255.255
	compatible    = netip.MustParsePrefix("::/96")          // RFC 4291, section 2.5.5.1
	translated    = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052, section 2.1
	translatedOwn = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour     = netip.MustParsePrefix("2002::/16")      // RFC 3056, section 2
	siteLocal     = netip.MustParsePrefix("fec0::/10")      // RFC 3879: deprecated, still local
	metadata6     = netip.MustParseAddr("fd00:ec2::254")    // EC2's instance metadata
)

// embedded returns the IPv4 address that an IPv6 address stands for, and
// whether it stands for one.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return a, false
	}
	b := a.As16()
	switch {
	case a.Is4In6():
		return a.Unmap(), true
	case compatible.Contains(a), translated.Contains(a), translatedOwn.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:])), true
	}
	return a, false
}

// allows reports whether a packet for t may leave by way of the host, whose own
// addresses and broadcast addresses are own.
func (p *Policy) allows(t target, own map[netip.Addr]bool) bool {
	if t.addr.Is4In6() || t.addr.Zone() != "" {
		return false // such an address has no place in a packet (RFC 4942, section 2.2)
	}
	if v4, ok := embedded(t.addr); ok && !p.allows1(t.at(v4), own) {
		return false
	}
	return p.allows1(t, own) && p.named(t)
}

// allows1 decides about one address as it stands, without what is inside it.
func (p *Policy) allows1(t target, own map[netip.Addr]bool) bool {
	a := t.addr
	switch {
	case anyNames(p.Deny, t):
		return false
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), thisNetwork.Contains(a), reserved.Contains(a):
		return false
	case a.IsLinkLocalUnicast(), siteLocal.Contains(a), a == metadata6:
		return p.LinkLocal || anyNames(p.Open, t)
	}
	return !own[a] || p.Host || anyNames(p.Open, t)
}

// named reports whether Only lets t through.
func (p *Policy) named(t target) bool { return len(p.Only) == 0 || anyNames(p.Only, t) }

// allowsAlias reports whether t, which is an alias of the host, may be used. A rule
// may name it by its own address or as loopback, the one it stands for.
func (p *Policy) allowsAlias(t target, loopback netip.Addr) bool {
	l := t.at(loopback)
	switch {
	case anyNames(p.Deny, t), anyNames(p.Deny, l):
		return false
	case !p.named(t) && !p.named(l):
		return false
	}
	return p.Host || anyNames(p.Open, t) || anyNames(p.Open, l)
}

// validSource reports whether a packet can come from a.
func validSource(a netip.Addr) bool {
	return !(a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6() ||
		thisNetwork.Contains(a) || reserved.Contains(a))
}

// ownAddresses knows the addresses of the host itself.
type ownAddresses struct {
	list func() ([]net.Addr, error) // net.InterfaceAddrs, but for tests

	mu  sync.Mutex
	at  time.Time
	set map[netip.Addr]bool
}

// ownFor is for how long a reading of the host's addresses serves: a dial a
// second must not mean a dump of all addresses a second.
const ownFor = 10 * time.Second

// get returns the host's addresses and the broadcast addresses of its networks,
// at most ownFor old. The caller must not change the map. If the addresses
// cannot be read the last reading stands.
func (o *ownAddresses) get(now time.Time) map[netip.Addr]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set != nil && now.Sub(o.at) < ownFor {
		return o.set
	}
	addrs, err := o.list()
	if err != nil && o.set != nil {
		return o.set
	}
	set := make(map[netip.Addr]bool, 2*len(addrs))
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		set[ip] = true
		if ones, bits := n.Mask.Size(); ip.Is4() && bits == 32 && ones > 0 && ones < 31 {
			b := ip.As4()
			for i := range b {
				b[i] |= ^n.Mask[i]
			}
			set[netip.AddrFrom4(b)] = true
		}
	}
	o.set, o.at = set, now
	return set
}
