package trust

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Destination is where a client may go, or may not:
//
//	10.0.0.0/8                  a network, or one address
//	10.0.0.0/8:22,8000-8080     these ports of it, of TCP and UDP
//	[2001:db8::/32]:22          the same in IPv6, where a port wants brackets
//	*  *:443                    any address of both families
//	host                        the server's own machine
//	link-local                  169.254.0.0/16, fe80::/10, where clouds have their metadata
//
// The last two are closed by default, and named to open them.
type Destination struct {
	Place  Place
	Prefix netip.Prefix // of Network alone, and masked
	Ports  []PortRange  // none: all of them, and what has no ports; at most maxPorts
}

// A Place is what kind of destination it is.
type Place string

const (
	Network   Place = ""
	Anywhere  Place = "*"
	Host      Place = "host"
	LinkLocal Place = "link-local"
)

// A PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// maxPorts is how many ranges one destination may have, as each packet of a new flow
// may be compared with all of them.
const maxPorts = 64

// Prefixes returns the networks that the destination stands for: none for the host and
// for link-local, which are whatever the machine says they are.
func (d Destination) Prefixes() []netip.Prefix {
	switch d.Place {
	case Network:
		return []netip.Prefix{d.Prefix}
	case Anywhere:
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	return nil
}

// String returns the destination as ParseDestination reads it.
func (d Destination) String() string {
	text := string(d.Place)
	if d.Place == Network {
		text = formatPrefix(d.Prefix)
	}
	if len(d.Ports) == 0 {
		return text
	}
	if d.Prefix.Addr().Is6() {
		text = "[" + text + "]"
	}
	ports := make([]string, len(d.Ports))
	for i, r := range d.Ports {
		ports[i] = r.String()
	}
	return text + ":" + strings.Join(ports, ",")
}

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// ParseDestination reads a destination.
func ParseDestination(text string) (Destination, error) {
	d, err := parseDestination(text)
	if err != nil {
		return Destination{}, fmt.Errorf("%s is no destination, such as 10.0.0.0/8:22,443 or [2001:db8::/32]:22: %w", quote(text), err)
	}
	return d, nil
}

func parseDestination(text string) (d Destination, err error) {
	where, ports, hasPorts := cutPorts(text)
	switch p := Place(where); p {
	case Host, LinkLocal:
		if hasPorts {
			return d, fmt.Errorf("%s has no ports here: name its address", p)
		}
		d.Place = p
	case Anywhere:
		d.Place = p
	default:
		if d.Prefix, err = parsePrefix(where); err != nil {
			return d, err
		}
	}
	if hasPorts {
		d.Ports, err = parsePorts(ports)
	}
	return d, err
}

// cutPorts cuts the ports off a destination. Two colons are those of an IPv6 address,
// unless it stands in brackets.
func cutPorts(text string) (where, ports string, found bool) {
	if inside, ok := strings.CutPrefix(text, "["); ok {
		if where, ports, found = strings.Cut(inside, "]:"); found {
			if !strings.Contains(where, ":") {
				return text, "", false // of no address in brackets
			}
			return where, ports, true
		}
		if where, ok = strings.CutSuffix(inside, "]"); ok && strings.Contains(where, ":") {
			return where, "", false
		}
		return text, "", false
	}
	if strings.Count(text, ":") > 1 {
		return text, "", false
	}
	return strings.Cut(text, ":")
}

func parsePorts(text string) (ports []PortRange, err error) {
	for word := range strings.SplitSeq(text, ",") {
		if len(ports) == maxPorts {
			return nil, fmt.Errorf("it has more than %d ports and ranges of ports", maxPorts)
		}
		first, last, isRange := strings.Cut(word, "-")
		if !isRange {
			last = first
		}
		var r PortRange
		if r.First, err = parsePort(first); err != nil {
			return nil, err
		}
		if r.Last, err = parsePort(last); err != nil {
			return nil, err
		}
		if r.First > r.Last {
			return nil, fmt.Errorf("the range %s goes backwards", quote(word))
		}
		ports = append(ports, r)
	}
	return ports, nil
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("%s is no port from 1 to 65535", quote(text))
	}
	return uint16(n), nil
}

// parsePrefix reads a network, or an address for a network of its own. An address that
// is not the network's is refused: one of the two is a slip. So is IPv4 inside IPv6,
// which has a form of its own.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := parseAddress(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s is an address in the network %s", p, p.Masked())
	}
	return p, nil
}

// parseAddress reads an address with the length of its network, or alone.
func parseAddress(text string) (p netip.Prefix, err error) {
	if strings.Contains(text, "/") {
		p, err = netip.ParsePrefix(text)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil {
			if a.Zone() != "" {
				return netip.Prefix{}, errors.New("an interface has no place in it")
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%s is neither a network nor an address", quote(text))
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s is IPv4 inside IPv6: write it as IPv4", quote(text))
	}
	return p, nil
}

// formatPrefix returns a network, and one address without its length.
func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// contains reports whether one of the networks has the address. IPv4 inside IPv6, as of
// a socket for both, is IPv4.
func contains(list []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}
