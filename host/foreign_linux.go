package host

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxForeign bounds what Foreign returns: enough to see what is going on, where
// a router's table may have a million routes.
const maxForeign = 100

// Foreign returns the routes of others that the tunnel overrides, at most 100: for
// status to show. A tunnel for everything overrides the machine's own networks
// too, see Foreign.Link.
func (s *State) Foreign() ([]Foreign, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil, nil
	}
	var all []Foreign
	for _, f := range families {
		carried := s.carriedOf(f)
		if len(carried) == 0 {
			continue
		}
		err := s.m.nl.RouteListFilteredIter(f, &netlink.Route{}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if x, ok := s.overrides(r, carried); ok {
				all = append(all, x)
			}
			return len(all) < maxForeign
		})
		if err != nil && len(all) < maxForeign {
			return all, fmt.Errorf("host: listing routes: %w", err)
		}
	}
	for i, x := range all {
		all[i].Device = s.m.deviceName(x.Device)
	}
	return all, nil
}

// carriedOf returns what the tunnel takes of a family, refused or carried.
func (s *State) carriedOf(f int) (some []netip.Prefix) {
	for _, c := range s.journal.changes {
		if r, ok := c.(*routeChange); ok && r.Type == unix.RTN_UNREACHABLE && family(r.Prefix.Addr()) == f {
			some = append(some, r.Prefix)
		}
	}
	return some
}

// overrides reports whether r is a foreign route inside one of carried. Its
// Device is still a number.
func (s *State) overrides(r netlink.Route, carried []netip.Prefix) (x Foreign, ok bool) {
	p := prefix(r.Dst)
	if r.Type != unix.RTN_UNICAST || r.Table == s.wish.Table || r.Table == unix.RT_TABLE_LOCAL || r.Protocol == protocol ||
		!p.IsValid() || p.Bits() == 0 || onMachine(p.Addr()) {
		return x, false
	}
	for _, c := range carried {
		if c.Bits() <= p.Bits() && c.Contains(p.Addr()) && !s.excluded(p) {
			x = Foreign{Prefix: p, Device: fmt.Sprint(r.LinkIndex), Table: r.Table, Link: r.Protocol == unix.RTPROT_KERNEL}
			x.Via, _ = netip.AddrFromSlice(r.Gw)
			return x, true
		}
	}
	return x, false
}

func (s *State) excluded(p netip.Prefix) bool {
	for _, e := range s.wish.Exclude {
		if e.Bits() <= p.Bits() && e.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// deviceName returns the name of the device with that number, or the number.
func (m *machine) deviceName(number string) string {
	var index int
	fmt.Sscan(number, &index)
	link, err := m.nl.LinkByIndex(index)
	if err != nil {
		return number
	}
	return link.Attrs().Name
}
