package usernat

import (
	"fmt"
	"net/netip"
)

// A Rule names destinations: the addresses of a prefix, and there some ports or
// everything.
type Rule struct {
	Prefix netip.Prefix
	Ports  []PortRange // of TCP and UDP, and those alone; none: all ports, pings and any other protocol
}

// A PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Everywhere in returns the Rules that name all of each prefix.
func Everywhere(in ...netip.Prefix) []Rule {
	rules := make([]Rule, 0, len(in))
	for _, p := range in {
		rules = append(rules, Rule{Prefix: p})
	}
	return rules
}

// String writes r as "10.0.0.0/8:22,8000-8099", or "[fd00::/8]:22" for IPv6; without
// ports as the prefix.
func (r Rule) String() string {
	if len(r.Ports) == 0 {
		return r.Prefix.String()
	}
	b := []byte(r.Prefix.String())
	if r.Prefix.Addr().Is6() {
		b = fmt.Appendf(nil, "[%v]", r.Prefix)
	}
	for i, p := range r.Ports {
		sep := ","
		if i == 0 {
			sep = ":"
		}
		b = fmt.Appendf(b, "%s%d", sep, p.First)
		if p.Last != p.First {
			b = fmt.Appendf(b, "-%d", p.Last)
		}
	}
	return string(b)
}

// check says what is wrong with r.
func (r Rule) check() error {
	if !r.Prefix.IsValid() {
		return fmt.Errorf("usernat: policy: prefix %v: not valid", r.Prefix)
	}
	for _, p := range r.Ports {
		if p.First == 0 || p.Last < p.First {
			return fmt.Errorf("usernat: policy: %v: ports %d to %d: not a range", r.Prefix, p.First, p.Last)
		}
	}
	return nil
}

// A target is what a packet asks for.
type target struct {
	addr  netip.Addr
	proto uint8
	port  uint16 // of TCP and UDP, else 0
}

// at returns t with another address: what an address stands for.
func (t target) at(a netip.Addr) target {
	t.addr = a
	return t
}

// names reports whether r names t.
func (r *Rule) names(t target) bool {
	if !r.Prefix.Contains(t.addr) {
		return false
	}
	if len(r.Ports) == 0 {
		return true
	}
	if t.proto != protoTCP && t.proto != protoUDP {
		return false
	}
	for _, p := range r.Ports {
		if p.First <= t.port && t.port <= p.Last {
			return true
		}
	}
	return false
}

// anyNames reports whether one of rules names t.
func anyNames(rules []Rule, t target) bool {
	for i := range rules {
		if rules[i].names(t) {
			return true
		}
	}
	return false
}
