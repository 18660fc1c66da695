package host

import (
	"errors"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How a machine becomes a router for the tunnel, and for nothing else (Linux).
// The kernel's switch is for all networks at once, so the filter comes first:
//
//	nft     what comes out of TUN goes to Forwarded, answers come back, the rest of
//	        what comes from or goes to TUN is dropped; MSS clamped either way.
//	        If the machine was no router before: what has to do with no tunnel of
//	        ours is dropped too
//	sysctl  accept_ra=2 where it was 1, or the kernel forgets its IPv6 routers
//	sysctl  ip_forward=1, ipv6 all.forwarding=1
//
// Taken back in the opposite order, the machine is no router while there is no
// filter.

// The switches.
const (
	forwardIPv4 = "net/ipv4/ip_forward"
	forwardIPv6 = "net/ipv6/conf/all/forwarding"
)

// forwardGroup is the group (ip-link(8)) of the devices of all tunnels that
// forward: what one of them passes on, the filter of the other does not drop.
const forwardGroup = protocol

// neverUnnamed is where the tunnel's peer goes only if it was named: link-local
// addresses with the clouds' metadata services, and EC2's in IPv6.
var neverUnnamed = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd00:ec2::254/128")}

// forwarded returns Forwarded, or everything of the families that the tunnel
// has; the narrower before the wider.
func (w Wish) forwarded() []netip.Prefix {
	all := slices.Clone(w.Forwarded)
	if len(all) == 0 {
		for _, f := range families {
			has := func(p netip.Prefix) bool { return family(p.Addr()) == f }
			if slices.ContainsFunc(w.Addrs, has) || slices.ContainsFunc(w.Routes, has) {
				all = append(all, everything(f))
			}
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if n := b.Bits() - a.Bits(); n != 0 {
			return n
		}
		return a.Compare(b)
	})
	return slices.Compact(all)
}

// besides returns the networks on this side that lie inside what the tunnel
// carries: the way to them is the machine's own.
func (w Wish) besides(carried []netip.Prefix) (some []netip.Prefix) {
	for _, p := range w.Forwarded {
		inside := func(c netip.Prefix) bool { return c.Bits() < p.Bits() && c.Contains(p.Addr()) }
		if slices.ContainsFunc(carried, inside) {
			some = append(some, p)
		}
	}
	return some
}

// forward plans what a router needs.
func (p *plan) forward() error {
	w := p.wish
	if !w.Forward {
		return nil
	}
	if !hasNFT() {
		return errors.New("host: forwarding needs nftables, which this kernel does not have")
	}
	c := &forwardChange{Name: forwardTable(w.Name), Device: w.Device, To: w.forwarded(), Masquerade: w.Masquerade}
	var switches []*sysctlChange
	for _, f := range families {
		if !slices.ContainsFunc(c.To, func(x netip.Prefix) bool { return family(x.Addr()) == f }) {
			continue
		}
		s, err := p.turnOn(f)
		if err != nil {
			return err
		}
		if s != nil {
			switches = append(switches, s)
			c.Closed = append(c.Closed, f)
		}
	}
	if there, err := c.present(p.m); err != nil {
		return err
	} else if there {
		return errors.New("host: nftables table " + c.Name + " exists, and no journal says that it is ours")
	}
	p.add(c)
	for _, s := range switches {
		if s.Path == forwardIPv6 {
			p.keepRouters()
		}
		p.add(s)
	}
	p.otherFirewalls()
	return nil
}

// turnOn returns the change that makes the machine a router of the family; nil if
// it is one already, and not by a tunnel of ours.
func (p *plan) turnOn(f int) (*sysctlChange, error) {
	name, conf := forwardIPv4, "net/ipv4/conf"
	if f == unix.AF_INET6 {
		name, conf = forwardIPv6, "net/ipv6/conf"
	}
	if other := wanted(p.others, name); other != nil {
		return &sysctlChange{Path: name, Old: other.Old, New: "1", Along: other.Along}, nil
	}
	now, err := readSysctl(name)
	if err != nil {
		return nil, err
	}
	if now != "0" {
		return nil, nil
	}
	c := &sysctlChange{Path: name, Old: now, New: "1"}
	// The kernel writes the switch's value to every device and to the default for
	// new ones, and for IPv4 its opposite to all.accept_redirects
	// (inet_forward_change, addrconf_fixup_forwarding).
	note := func(name, made, unmade string) {
		if was, err := readSysctl(name); err == nil && was != unmade {
			c.Along = append(c.Along, parameter{Path: name, Old: was, New: made})
		}
	}
	for _, device := range p.confDevices(conf) {
		note(path.Join(conf, device, "forwarding"), "1", "0")
	}
	note(path.Join(conf, "default/forwarding"), "1", "0")
	if f == unix.AF_INET {
		note("net/ipv4/conf/all/accept_redirects", "0", "1")
	}
	return c, nil
}

// confDevices lists the devices that have parameters below conf, but for the
// tunnel's own.
func (p *plan) confDevices(conf string) (names []string) {
	entries, _ := os.ReadDir(path.Join("/proc/sys", conf)) // none, then nothing to keep
	for _, e := range entries {
		if n := e.Name(); n != "all" && n != "default" && n != p.wish.Device {
			names = append(names, n)
		}
	}
	return names
}

// keepRouters lets the machine heed router advertisements where it does: a router
// would not, and the kernel would forget the default routes that it learned; RFC
// 4861, section 6.2.7.
func (p *plan) keepRouters() {
	const conf = "net/ipv6/conf"
	for _, device := range p.confDevices(conf) {
		heeds := path.Join(conf, device, "accept_ra")
		if o := wanted(p.others, heeds); o != nil && o.New == "2" {
			p.sysctl(heeds, "2")
			continue
		}
		ra, err := readSysctl(heeds)
		routes, err2 := readSysctl(path.Join(conf, device, "forwarding"))
		if err == nil && err2 == nil && ra == "1" && routes == "0" && device != "lo" {
			p.sysctl(heeds, "2")
		}
	}
}

// otherFirewalls says which filters of others may drop what is forwarded: a
// packet passes only if every filter lets it.
func (p *plan) otherFirewalls() {
	if tables, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil && strings.Contains(string(tables), "filter") {
		p.note("iptables-legacy has a filter of its own: if it drops what is forwarded, let %s through there, both ways", p.wish.Device)
	}
	conn, err := nftables.New()
	if err != nil {
		return
	}
	chains, err := conn.ListChains()
	if err != nil {
		p.note("filters of other programs cannot be read: if one drops what is forwarded, let %s through there, both ways", p.wish.Device)
		return
	}
	for _, c := range chains {
		switch c.Table.Family {
		case nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6:
		default:
			continue
		}
		if c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || c.Type != nftables.ChainTypeFilter ||
			strings.HasPrefix(c.Table.Name, tableName("")) {
			continue
		}
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop || endsInDrop(conn, c) {
			p.note("nftables' chain %q of the table %q drops what it does not know: let %s through there, both ways, or nothing is forwarded",
				c.Name, c.Table.Name, p.wish.Device)
		}
	}
}

// endsInDrop reports whether the last rule of a chain refuses all that comes to it.
func endsInDrop(conn *nftables.Conn, c *nftables.Chain) bool {
	rules, err := conn.GetRules(c.Table, c)
	if err != nil || len(rules) == 0 {
		return false
	}
	refuses := false
	for _, e := range rules[len(rules)-1].Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Reject:
			refuses = true
		case *expr.Verdict:
			refuses = refuses || e.Kind == expr.VerdictDrop
		default:
			return false // a condition
		}
	}
	return refuses
}
