package host

import (
	"fmt"
	"net/netip"
)

// A ClashError says that the tunnel's prefix is in use on this machine.
type ClashError struct {
	Wanted netip.Prefix // the tunnel's
	Held   netip.Prefix // the address's, or the route's
	Device string       // of Held, as the kernel has it: quote it
	Route  bool         // Held is a route
}

func (e *ClashError) Error() string {
	what := "address"
	if e.Route {
		what = "route"
	}
	return fmt.Sprintf("host: the tunnel's %v clashes with the %s %v on %q", e.Wanted, what, e.Held, e.Device)
}

// A holding is a prefix in use.
type holding struct {
	prefix netip.Prefix
	device string
	route  bool
}

// clash finds the first of addrs whose prefix has an address in common with
// something held. A route for everything, or for half of it, as some tunnels
// make them, holds nothing; nor does one for all that is assigned of IPv6.
func clash(addrs []netip.Prefix, held []holding) error {
	for _, a := range addrs {
		if a.Addr().IsLinkLocalUnicast() && a.Addr().Is6() {
			continue // every link has its own fe80::/64
		}
		for _, h := range held {
			if h.route && holdsNothing(h.prefix) {
				continue
			}
			if a.Masked().Overlaps(h.prefix.Masked()) {
				return &ClashError{Wanted: a, Held: h.prefix, Device: h.device, Route: h.route}
			}
		}
	}
	return nil
}

func holdsNothing(p netip.Prefix) bool {
	return p.Bits() <= 1 || p == netip.MustParsePrefix("2000::/3")
}
