package serve

import (
	"net/netip"

	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/trust"
)

// bounds are what any client may reach at most, by the server's flags.
type bounds struct {
	host, linkLocal bool           // --allow host, link-local
	open            []usernat.Rule // --allow of other destinations
	only            []usernat.Rule // --only; none: everything
	deny            []usernat.Rule // --deny
}

// parseBounds reads --allow, --only and --deny.
func parseBounds(allow, only, deny []string) (b bounds, err error) {
	for _, text := range allow {
		d, err := destination("--allow", text)
		if err != nil {
			return b, err
		}
		switch d.Place {
		case trust.Host:
			b.host = true
		case trust.LinkLocal:
			b.linkLocal = true
		default:
			b.open = append(b.open, rules(d)...)
		}
	}
	for _, list := range []struct {
		flag  string
		texts []string
		into  *[]usernat.Rule
	}{{"--only", only, &b.only}, {"--deny", deny, &b.deny}} {
		for _, text := range list.texts {
			d, err := destination(list.flag, text)
			if err != nil {
				return b, err
			}
			*list.into = append(*list.into, spots(d)...)
		}
	}
	return b, nil
}

func destination(flag, text string) (trust.Destination, error) {
	d, err := trust.ParseDestination(text)
	if err != nil {
		return d, &config.Error{Reason: flag + ": " + err.Error(), Hint: "10.0.0.0/8, 10.0.0.0/8:22,443, [2001:db8::/32]:22, host, link-local"}
	}
	return d, nil
}

// The places that a word stands for. Those of the host, its own addresses, only the NAT
// knows; as a rule they are its loopback.
var (
	loopback  = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	linkLocal = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::254/128")}
)

// spots are all that a destination stands for.
func spots(d trust.Destination) []usernat.Rule {
	switch d.Place {
	case trust.Host:
		return usernat.Everywhere(loopback...)
	case trust.LinkLocal:
		return usernat.Everywhere(linkLocal...)
	}
	return rules(d)
}

// rules are a destination's networks, with its ports.
func rules(d trust.Destination) (list []usernat.Rule) {
	for _, p := range d.Prefixes() {
		r := usernat.Rule{Prefix: p}
		for _, ports := range d.Ports {
			r.Ports = append(r.Ports, usernat.PortRange(ports))
		}
		list = append(list, r)
	}
	return list
}

// policy is what a client's NAT lets it reach: what its line allows, within the bounds.
//
// What is closed by default is opened by the line and the bounds together, the line
// naming it: a network that holds more than the loopback, link-local or one address, such
// as "*", opens nothing of that.
func (b bounds) policy(c trust.Client) usernat.Policy {
	p := usernat.Policy{Deny: append([]usernat.Rule(nil), b.deny...)}
	for _, d := range c.Deny {
		p.Deny = append(p.Deny, spots(d)...)
		b.host = b.host && d.Place != trust.Host // its own addresses too
		b.linkLocal = b.linkLocal && d.Place != trust.LinkLocal
	}
	if len(c.Allow) == 0 {
		p.Host, p.LinkLocal, p.Open, p.Only = b.host, b.linkLocal, b.open, b.only
		return p
	}
	var named []usernat.Rule
	for _, d := range c.Allow {
		switch d.Place {
		case trust.Host:
			p.Host = p.Host || b.host
		case trust.LinkLocal:
			p.LinkLocal = p.LinkLocal || b.linkLocal
		}
		named = append(named, spots(d)...)
		for _, r := range rules(d) {
			switch {
			case within(r.Prefix, linkLocal):
				if b.linkLocal {
					p.Open = append(p.Open, r)
				} else {
					p.Open = append(p.Open, both(r, b.open)...)
				}
			case within(r.Prefix, loopback), r.Prefix.IsSingleIP():
				if b.host {
					p.Open = append(p.Open, r)
				} else {
					p.Open = append(p.Open, both(r, b.open)...)
				}
			}
		}
	}
	if p.Only = named; len(b.only) > 0 {
		p.Only = nil
		for _, r := range named {
			p.Only = append(p.Only, both(r, b.only)...)
		}
		if len(p.Only) == 0 {
			p.Only = nowhere
		}
	}
	return p
}

// nowhere lets nothing through, where no rule at all would let everything.
var nowhere = usernat.Everywhere(netip.MustParsePrefix("0.0.0.0/32"))

func within(p netip.Prefix, list []netip.Prefix) bool {
	for _, q := range list {
		if q.Bits() <= p.Bits() && q.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// both are the destinations that r names, and one of list too.
func both(r usernat.Rule, list []usernat.Rule) (found []usernat.Rule) {
	for _, other := range list {
		if !r.Prefix.Overlaps(other.Prefix) {
			continue
		}
		narrow := r.Prefix
		if other.Prefix.Bits() > narrow.Bits() {
			narrow = other.Prefix
		}
		ports, none := bothPorts(r.Ports, other.Ports)
		if !none {
			found = append(found, usernat.Rule{Prefix: narrow, Ports: ports})
		}
	}
	return found
}

// bothPorts are the ports in a and in b, where no ports at all stand for every one. none
// says that there are none in both.
func bothPorts(a, b []usernat.PortRange) (ports []usernat.PortRange, none bool) {
	if len(a) == 0 {
		return b, false
	}
	if len(b) == 0 {
		return a, false
	}
	for _, x := range a {
		for _, y := range b {
			if first, last := max(x.First, y.First), min(x.Last, y.Last); first <= last {
				ports = append(ports, usernat.PortRange{First: first, Last: last})
			}
		}
	}
	return ports, len(ports) == 0
}
