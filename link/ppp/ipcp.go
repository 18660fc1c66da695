package ppp

import (
	"fmt"
	"net/netip"
)

// IPCP's options (RFC 1332, section 3; RFC 1877, section 1). All others are
// rejected, the two addresses of old (1) and Van Jacobson's compression (2) among
// them.
const (
	optAddr  = 3
	optDNS1  = 129
	optNBNS1 = 130
	optDNS2  = 131
	optNBNS2 = 132
)

// The address that a peer is given which has none, when nothing else was wanted:
// the one that slirp has inside, and another if we are that.
var (
	someAddress    = netip.AddrFrom4([4]byte{10, 0, 2, 2})
	anotherAddress = netip.AddrFrom4([4]byte{10, 112, 112, 112})
)

// nowhere is 0.0.0.0: "give me one" (RFC 1332, section 3.3; RFC 1877, section 1.1).
var nowhere = netip.IPv4Unspecified()

// ipcp is IPCP's negotiation.
type ipcp struct {
	want  IPv4
	allow func(netip.Addr) bool // may the peer use that address?

	local     netip.Addr // ours, as we ask for it; nowhere while we have none
	askAddr   bool
	dns       [2]netip.Addr // what we ask for and the peer has told
	askDNS    [2]bool
	remote    netip.Addr // the peer's, from its last request; invalid if it named none
	suggested bool       // a peer that named no address was asked to
}

func (c *ipcp) begin() {
	c.local, c.askAddr = nowhere, true
	if c.want.Local.IsValid() {
		c.local = c.want.Local
	}
	c.dns = [2]netip.Addr{nowhere, nowhere}
	c.askDNS = [2]bool{c.want.AskDNS, c.want.AskDNS}
	c.suggested = false
}

func (c *ipcp) request(dst []byte) []byte {
	if c.askAddr {
		dst = appendOption(dst, optAddr, c.local.AsSlice()...)
	}
	for i, kind := range []byte{optDNS1, optDNS2} {
		if c.askDNS[i] {
			dst = appendOption(dst, kind, c.dns[i].AsSlice()...)
		}
	}
	return dst
}

func (c *ipcp) listen() { c.remote = netip.Addr{} }

func (c *ipcp) consider(o option) (verdict, []byte) {
	if len(o.value) != 4 {
		return reject, nil
	}
	addr := netip.AddrFrom4([4]byte(o.value))
	switch o.kind {
	case optAddr:
		return c.considerAddress(addr)
	case optDNS1, optDNS2:
		return give(c.want.DNS, int(o.kind-optDNS1)/2, addr)
	case optNBNS1, optNBNS2:
		return give(c.want.NBNS, int(o.kind-optNBNS1)/2, addr)
	}
	return reject, nil
}

// considerAddress judges the peer's address. One that it has is taken if it is
// the one we want, or if any will do; else it is told ours. 0.0.0.0 is never
// taken: slirp would end IPCP.
func (c *ipcp) considerAddress(addr netip.Addr) (verdict, []byte) {
	usable := host4(addr) && addr != c.local && (c.allow == nil || c.allow(addr))
	if usable && (c.want.AcceptRemote || !c.want.Remote.IsValid() || addr == c.want.Remote) {
		c.remote = addr
		return take, nil
	}
	if ours := c.suggestion(); ours.IsValid() && ours != addr {
		return nak, ours.AsSlice()
	}
	return reject, nil
}

// suggestion returns the address that a peer without a good one is told to use.
// It is invalid if there is none.
func (c *ipcp) suggestion() netip.Addr {
	switch {
	case c.want.Remote.IsValid():
		return c.want.Remote
	case c.want.NoRemote:
		return netip.Addr{}
	case c.local == someAddress:
		return anotherAddress
	}
	return someAddress
}

// give judges a peer's request for the i-th of the name servers.
func give(servers []netip.Addr, i int, asked netip.Addr) (verdict, []byte) {
	switch {
	case i >= len(servers):
		return reject, nil
	case asked == servers[i]:
		return take, nil
	}
	return nak, servers[i].AsSlice()
}

// missing asks a peer for its address that did not name it, once: who has none
// says so by doing it again.
func (c *ipcp) missing(dst []byte) []byte {
	if c.remote.IsValid() || c.suggested || c.want.NoRemote || hasOption(dst, optAddr) {
		return dst
	}
	c.suggested = true
	return appendOption(dst, optAddr, c.suggestion().AsSlice()...)
}

// hasOption reports whether options hold one of a kind.
func hasOption(options []byte, kind byte) bool {
	for {
		o, rest, ok := cutOption(options)
		if !ok || o.kind == kind {
			return ok
		}
		options = rest
	}
}

func (c *ipcp) naked(o option) {
	if len(o.value) != 4 {
		return
	}
	addr := netip.AddrFrom4([4]byte(o.value))
	switch o.kind {
	case optAddr: // may also come from a peer that rejected ours, and would like it after all
		if host4(addr) && (c.want.AcceptLocal || !c.want.Local.IsValid()) {
			c.local, c.askAddr = addr, true
		}
	case optDNS1, optDNS2:
		c.dns[(o.kind-optDNS1)/2] = addr
	}
}

func (c *ipcp) rejected(o option) {
	switch o.kind {
	case optAddr:
		c.askAddr = false
	case optDNS1, optDNS2:
		c.askDNS[(o.kind-optDNS1)/2] = false
	}
}

// An addresses is what IPCP agreed on.
type addresses struct {
	local, remote netip.Addr
	dns           []netip.Addr
}

// agreed returns what the open IPCP agreed on. An error says what is missing.
func (c *ipcp) agreed() (addresses, error) {
	a := addresses{local: c.local, remote: c.remote}
	switch {
	case !c.askAddr && c.want.Local.IsValid():
		return a, fmt.Errorf("the peer does not take our address %s", c.want.Local)
	case !c.askAddr || c.local == nowhere:
		return a, fmt.Errorf("we have no address, and the peer gave none")
	case !c.remote.IsValid():
		// It named none, and took none: some modems are so. What we would have
		// told it stands for it, as with pppd.
		a.remote = c.suggestion()
	}
	switch {
	case a.remote == a.local:
		return a, fmt.Errorf("the peer gave us its own address %s", a.local)
	case a.remote.IsValid() && c.allow != nil && !c.allow(a.remote):
		return a, fmt.Errorf("the peer may not use the address %s", a.remote)
	}
	for i, server := range c.dns {
		if c.askDNS[i] && host4(server) && (i == 0 || server != c.dns[0]) {
			a.dns = append(a.dns, server)
		}
	}
	return a, nil
}

// host4 reports whether addr can be that of a host on the other side of a link:
// not this network, loopback, reserved (RFC 6890, section 2.2.2) or multicast (RFC
// 1112, section 4).
func host4(addr netip.Addr) bool {
	first := addr.As4()[0]
	return first != 0 && first != 127 && first < 224
}
