package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A change is one thing to be done to the machine, with all that is needed to
// take it back later, by another process. The journal holds it as JSON.
type change interface {
	// String is the change in the words of ip(8), nft(8), sysctl(8): one or more
	// lines, safe for a terminal.
	String() string

	// do makes the change. It fails if the thing is there already: what we did
	// not make is not ours to take back.
	do(m *machine) error

	// undo takes back what do did, or the part of it that a killed process got
	// done, and says so in one line; "" if there was nothing to take back. What
	// is gone already, or is not exactly as do left it, stays as it is.
	undo(m *machine) (did string, err error)

	// present reports whether the change stands as do left it.
	present(m *machine) (bool, error)

	// lasts reports whether the change outlives the kernel it was made in.
	lasts() bool
}

// kinds names the changes in the journal.
var kinds = map[string]func() change{
	"link":       func() change { return new(linkChange) },
	"address":    func() change { return new(addressChange) },
	"route":      func() change { return new(routeChange) },
	"rule":       func() change { return new(ruleChange) },
	"nft":        func() change { return new(nftChange) },
	"forward":    func() change { return new(forwardChange) },
	"sysctl":     func() change { return new(sysctlChange) },
	"resolvconf": func() change { return new(resolvConfChange) },
	"resolved":   func() change { return new(resolvedChange) },

	"connections": func() change { return new(connectionsChange) },
}

func kindOf(c change) string {
	switch c.(type) {
	case *linkChange:
		return "link"
	case *addressChange:
		return "address"
	case *routeChange:
		return "route"
	case *ruleChange:
		return "rule"
	case *nftChange:
		return "nft"
	case *forwardChange:
		return "forward"
	case *sysctlChange:
		return "sysctl"
	case *resolvConfChange:
		return "resolvconf"
	case *resolvedChange:
		return "resolved"
	case *connectionsChange:
		return "connections"
	}
	panic(fmt.Sprintf("host: %T has no name in the journal", c)) // ours, not input's
}

func decodeChange(kind string, data []byte) (change, error) {
	make := kinds[kind]
	if make == nil {
		return nil, fmt.Errorf("change of unknown kind %q", kind)
	}
	c := make()
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	return c, nil
}

// A machine is the network namespace that the changes are made in, as seen by
// the thread that made it.
type machine struct {
	nl    *netlink.Handle
	notes []string
}

func openMachine() (*machine, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("host: netlink: %w", err)
	}
	return &machine{nl: h}, nil
}

func (m *machine) close() { m.nl.Close() }

func (m *machine) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// whole repeats a dump that the kernel says changed while it was read. Eight
// tries: a table that changes faster than that has no state to speak of.
func whole[T any](dump func() (T, error)) (v T, err error) {
	for range 8 {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return v, err
		}
	}
	return v, err
}

func (m *machine) rules(family int) ([]netlink.Rule, error) {
	return whole(func() ([]netlink.Rule, error) { return m.nl.RuleList(family) })
}

// routes returns the routes of one table, or of all for table 0.
func (m *machine) routes(family, table int) ([]netlink.Route, error) {
	return whole(func() ([]netlink.Route, error) {
		return m.nl.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	})
}

func (m *machine) addrs(link netlink.Link, family int) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return m.nl.AddrList(link, family) })
}

// device returns the device with that name if it is still the same one: the
// kernel may have given its number, or somebody its name, to another. nil means
// it is gone.
func (m *machine) device(name string, index int) (netlink.Link, error) {
	link, err := m.nl.LinkByName(name)
	if _, gone := err.(netlink.LinkNotFoundError); gone {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if link.Attrs().Index != index {
		return nil, nil
	}
	return link, nil
}

// hasIPv6 reports whether the kernel has IPv6 at all.
func hasIPv6() bool { return exists("/proc/sys/net/ipv6") }

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func familyFlag(family int) string {
	if family == unix.AF_INET6 {
		return "-6 "
	}
	return "-4 "
}
