// Package addresses is where the addresses inside a tunnel lie, whichever command or
// emulator gives them: those of SLiRP, which its users' scripts know by heart, and the
// like in IPv6.
//
// Which of the networks is free on a machine is package host's affair.
package addresses

import "net/netip"

// Where the addresses of a userspace NAT lie in the network it works in: those
// of SLiRP, and the same last octets in IPv6.
const (
	Host     = 2  // the far host itself, closed unless opened
	Resolver = 3  // answers DNS
	Peer     = 15 // whoever is at the other end
)

// Networks are what the tunnel's addresses come from when nobody names
// others: SLiRP's, and one of our own made of the name (RFC 4193, section 3):
// one of IPv4, and one of IPv6.
var Networks = []netip.Prefix{
	netip.MustParsePrefix("10.0.2.0/24"),
	netip.MustParsePrefix("fd62:6f64:6b69::/64"),
}

// In returns the n-th address of a network, n below 100. In IPv6 its decimal
// digits stand as they are: 10.0.2.15 and fd62:6f64:6b69::15 belong together.
func In(network netip.Prefix, n byte) netip.Addr {
	b := network.Masked().Addr().AsSlice()
	if network.Addr().Is6() {
		n = n/10<<4 | n%10
	}
	b[len(b)-1] += n
	a, _ := netip.AddrFromSlice(b)
	return a
}
