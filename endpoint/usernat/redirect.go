package usernat

import (
	"fmt"
	"net/netip"
	"time"
)

// A Redirect lets others in: who connects to Listen on the host reaches To at the
// inner side. It is the only way in; without one, no packet goes inside that does
// not answer one from there.
//
// Inside, the others seem to be the host: their connections and datagrams come
// from the first of Config.Host that has To's IP version. (The originals of this
// role pass on 127.0.0.1 as it is, which a kernel drops as a martian.)
type Redirect struct {
	Network string         // "tcp" or "udp"
	Listen  netip.AddrPort // where the host listens; port 0: any that is free
	To      netip.AddrPort // where that leads, inside

	// Once, of TCP: the first connection is the only one.
	Once bool

	// Idle, of UDP: the redirection ends when nothing has passed for so long. 0:
	// never.
	Idle time.Duration
}

// String names r: "tcp 127.0.0.1:5555 to 10.0.2.15:80".
func (r Redirect) String() string { return fmt.Sprintf("%s %v to %v", r.Network, r.Listen, r.To) }

// check says what is wrong with r in a NAT with config c.
func (r Redirect) check(c *Config) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("usernat: redirection %v: %s", r, fmt.Sprintf(format, args...))
	}
	to := r.To.Addr()
	switch {
	case r.Network != "tcp" && r.Network != "udp":
		return fault("neither tcp nor udp")
	case !r.Listen.Addr().IsValid() || r.Listen.Addr().Is4In6() || r.Listen.Addr().Zone() != "":
		return fault("%v is no address to listen at", r.Listen.Addr())
	case !to.IsValid() || to.Zone() != "" || !validSource(to) || r.To.Port() == 0:
		return fault("%v is no place inside", r.To)
	case to.Is6() && c.MTU < minMTU6:
		return fault("no IPv6 with an MTU of %d", c.MTU)
	case !r.from(c).IsValid():
		return fault("no host alias of that IP version to come from")
	case r.Once && r.Network != "tcp":
		return fault("once is for tcp")
	case r.Idle != 0 && r.Network != "udp" || r.Idle < 0:
		return fault("an idle time is for udp, and not negative")
	}
	for _, own := range append(append([]netip.Addr(nil), c.Host...), c.DNS...) {
		if to == own {
			return fault("%v is the NAT's own", to)
		}
	}
	return nil
}

// from returns the address that r's traffic comes from inside, invalid if there
// is none.
func (r Redirect) from(c *Config) netip.Addr {
	for _, a := range c.Host {
		if a.Is4() == r.To.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}
