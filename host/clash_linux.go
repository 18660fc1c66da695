package host

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Clash says whether a tunnel with these addresses, each with its prefix, would
// hide something from the machine: an address, or a route that is more specific,
// equal or covering, though not the default route. The error is a *ClashError,
// or says why the machine could not be asked.
func Clash(addrs []netip.Prefix) error {
	m, err := openMachine()
	if err != nil {
		return err
	}
	defer m.close()
	held, err := m.held("")
	if err != nil {
		return err
	}
	return clash(addrs, held)
}

// Choose returns the first of candidates that does not clash, or the last
// one's *ClashError.
func Choose(candidates []netip.Prefix) (netip.Prefix, error) {
	m, err := openMachine()
	if err != nil {
		return netip.Prefix{}, err
	}
	defer m.close()
	held, err := m.held("")
	if err != nil {
		return netip.Prefix{}, err
	}
	err = fmt.Errorf("host: no address to choose from")
	for _, c := range candidates {
		if err = clash([]netip.Prefix{c}, held); err == nil {
			return c, nil
		}
	}
	return netip.Prefix{}, err
}

// held returns the addresses and routes of the machine, but those of the device
// named except.
func (m *machine) held(except string) ([]holding, error) {
	links, err := m.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("host: listing devices: %w", err)
	}
	names := make(map[int]string)
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var held []holding
	for _, f := range families {
		addrs, err := m.addrs(nil, f)
		if err != nil {
			return nil, fmt.Errorf("host: listing addresses: %w", err)
		}
		for _, a := range addrs {
			if name := names[a.LinkIndex]; name != except {
				held = append(held, holding{prefix(a.IPNet), name, false})
			}
		}
		routes, err := m.routes(f, 0)
		if err != nil {
			return nil, fmt.Errorf("host: listing routes: %w", err)
		}
		for _, r := range routes {
			name := names[r.LinkIndex]
			if len(r.MultiPath) > 0 {
				name = names[r.MultiPath[0].LinkIndex]
			}
			if r.Type == unix.RTN_UNICAST && r.Table != unix.RT_TABLE_LOCAL && name != except {
				held = append(held, holding{prefix(r.Dst), name, true})
			}
		}
	}
	return held, nil
}
