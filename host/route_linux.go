package host

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks our routes and rules (rtm_protocol): who made them. No daemon
// uses 98, "b"; see /etc/iproute2/rt_protos.
const protocol = 98

// worst is the metric of the last resort.
const worst = 1<<32 - 1

// The way we tell inner TCP what the tunnel is like. Of what else a route can say, each
// measured with and without over 20 Mbit/s and 50 ms: congctl bbr makes an upload a fifth
// slower, for the carrier finds the rate already, and what fills the queue at the
// tunnel's entrance is told so; quickack changes nothing; ECN is not known to the stack
// that ends TCP at a far side without root.
const (
	// rtoMin is the least retransmission timeout of inner TCP. What it sends arrives,
	// but all of it stands still while the carrier retransmits; Linux would
	// retransmit after 200 ms what is only late. RFC 6298, section 2.4, asks for
	// one second. What the tunnel's entrance drops on purpose TCP finds without a
	// timeout, and uploads that stood still for 0.7 and 3 s went on as soon with it as
	// without.
	rtoMin = time.Second

	// flight is the initial window in octets: one GSO super-packet, the unit in
	// which the tunnel carries TCP.
	flight = 1 << 16

	// usualWindow is Linux's own initial window in segments (RFC 6928).
	usualWindow = 10

	// slowMTU is the MTU, in octets, that a tunnel has because the way is slow: IPv6's
	// least. flight would keep a line of 9,600 bit/s busy for a minute.
	slowMTU = 1280
)

// initialWindow is flight in segments of a device with that MTU, IPv4 and TCP headers
// with timestamps taken off: 46 for Ethernet's, and 2 where a packet is as large as
// flight, whose usual window would be 655 kB in one burst. On a slow way it is 4,380
// octets, RFC 3390's.
func initialWindow(mtu int) int {
	const headers = 20 + 32
	segment := mtu - headers
	if mtu <= slowMTU {
		return min(4, max(2, 4380/segment))
	}
	return (flight + segment - 1) / segment
}

// A routeChange puts one route into the tunnel's table.
type routeChange struct {
	Table  int          `json:"table"`
	Prefix netip.Prefix `json:"prefix"`
	Type   uint8        `json:"type"` // rtnetlink(7), rtm_type: RTN_UNICAST, RTN_UNREACHABLE, RTN_THROW
	Metric uint32       `json:"metric"`

	// For RTN_UNICAST alone.
	Device string `json:"device,omitempty"`
	Index  int    `json:"index,omitempty"`
	RTOMin int    `json:"rto_min,omitempty"` // ms
	Window int    `json:"window,omitempty"`  // segments; 0 leaves it to the kernel
}

func (c *routeChange) String() string { return "ip " + c.text("add") }

func (c *routeChange) text(verb string) string {
	s := familyFlag(family(c.Prefix.Addr())) + "route " + verb + " "
	switch c.Type {
	case unix.RTN_UNREACHABLE:
		s += "unreachable "
	case unix.RTN_THROW:
		s += "throw "
	}
	if c.Prefix.Bits() == 0 {
		s += "default"
	} else {
		s += c.Prefix.String()
	}
	if c.Device != "" {
		s += " dev " + c.Device
	}
	s += fmt.Sprintf(" table %d metric %d proto %d", c.Table, c.Metric, protocol)
	if c.RTOMin != 0 {
		s += fmt.Sprintf(" rto_min %dms", c.RTOMin)
	}
	if c.Window != 0 {
		s += fmt.Sprintf(" initcwnd %d initrwnd %d", c.Window, c.Window)
	}
	return s
}

func (c *routeChange) route() *netlink.Route {
	r := &netlink.Route{
		Dst:      ipNet(c.Prefix),
		Table:    c.Table,
		Type:     int(c.Type),
		Priority: int(c.Metric),
		Protocol: protocol,
		Family:   family(c.Prefix.Addr()),
	}
	if c.Type == unix.RTN_UNICAST {
		r.LinkIndex = c.Index
		if r.Family == unix.AF_INET {
			r.Scope = netlink.SCOPE_LINK
		}
		r.RtoMin, r.RtoMinLock = c.RTOMin, c.RTOMin != 0 // the kernel heeds it only when locked
		r.InitCwnd, r.InitRwnd = c.Window, c.Window
	}
	return r
}

func (c *routeChange) is(r netlink.Route) bool {
	if prefix(r.Dst) != c.Prefix || r.Table != c.Table || r.Type != int(c.Type) || uint32(r.Priority) != c.Metric ||
		r.Protocol != protocol || r.Gw != nil || len(r.MultiPath) != 0 {
		return false
	}
	return c.Type != unix.RTN_UNICAST ||
		r.LinkIndex == c.Index && r.RtoMin == c.RTOMin && r.InitCwnd == c.Window && r.InitRwnd == c.Window
}

func (c *routeChange) do(m *machine) error { return m.nl.RouteAdd(c.route()) }

func (c *routeChange) undo(m *machine) (string, error) {
	if there, err := c.present(m); !there || err != nil {
		return "", err
	}
	err := m.nl.RouteDel(c.route())
	if errors.Is(err, unix.ESRCH) {
		return "", nil
	}
	return "ip " + c.text("del"), err
}

func (c *routeChange) present(m *machine) (bool, error) {
	have, err := m.routes(family(c.Prefix.Addr()), c.Table)
	for _, r := range have {
		if c.is(r) {
			return true, nil
		}
	}
	return false, err
}

func (c *routeChange) lasts() bool { return false }
