package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A plan is the changes that make a Wish true, in the order in which they are
// made: everything that carries first, then the rules that send packets there,
// then the names. Taken back in the opposite order, nothing leaks on the way.
type plan struct {
	wish    Wish // with all that was left to us filled in
	changes []change
	notes   []string

	m      *machine
	others []*journal
	link   netlink.Link // nil: not made yet
}

func (p *plan) add(c change) { p.changes = append(p.changes, c) }

func (p *plan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// makePlan looks at the machine and changes nothing. The device need not be
// there yet, so that a plan can be shown before anything is made.
func makePlan(m *machine, w Wish, others []*journal) (*plan, error) {
	p := &plan{wish: w, m: m, others: others}
	link, err := m.nl.LinkByName(w.Device)
	if _, none := err.(netlink.LinkNotFoundError); err != nil && !none {
		return nil, fmt.Errorf("host: device %s: %w", w.Device, err)
	} else if !none {
		p.link = link
	}
	if !hasIPv6() {
		p.withoutIPv6()
	}
	for _, step := range []func() error{
		p.checkClash, p.device, p.routes, p.filter, p.forward, p.rules, p.connections, p.names,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plan) withoutIPv6() {
	w := &p.wish
	six := func(x netip.Prefix) bool { return x.Addr().Is6() }
	before := len(w.Addrs) + len(w.Routes)
	w.Addrs = slices.DeleteFunc(slices.Clone(w.Addrs), six)
	w.Routes = slices.DeleteFunc(slices.Clone(w.Routes), six)
	w.Exclude = slices.DeleteFunc(slices.Clone(w.Exclude), six)
	w.Forwarded = slices.DeleteFunc(slices.Clone(w.Forwarded), six)
	w.DNS.Servers = slices.DeleteFunc(slices.Clone(w.DNS.Servers), netip.Addr.Is6)
	if len(w.Addrs)+len(w.Routes) != before {
		p.note("this kernel has no IPv6: the tunnel carries IPv4 alone")
	}
}

func (p *plan) checkClash() error {
	held, err := p.m.held(p.wish.Device)
	if err != nil {
		return err
	}
	return clash(p.wish.Addrs, held)
}

// index is the device's, 0 if there is none yet.
func (p *plan) index() int {
	if p.link == nil {
		return 0
	}
	return p.link.Attrs().Index
}

func (p *plan) device() error {
	w := p.wish
	v6 := hasIPv6() && w.MTU >= MinMTUIPv6
	if v6 {
		conf := path.Join("net/ipv6/conf", w.Device)
		if slices.ContainsFunc(w.Addrs, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
			p.sysctl(path.Join(conf, "disable_ipv6"), "0")
		}
		p.sysctl(path.Join(conf, "accept_ra"), "0") // the far side's router advertisements would add routes
	}
	up := &linkChange{Device: w.Device, Index: p.index(), MTU: w.MTU, OldMTU: w.MTU, OldMode: addrGenMode("default")}
	if p.link != nil {
		up.OldMode = addrGenMode(w.Device)
		up.OldMTU, up.WasUp = p.link.Attrs().MTU, p.link.Attrs().Flags&net.FlagUp != 0
	}
	if !v6 {
		up.OldMode = noAddresses // the kernel gives it none
	}
	if w.Forward {
		up.Group = forwardGroup
		if p.link != nil {
			up.OldGroup = p.link.Attrs().Group
		}
	}
	p.add(up)
	for _, a := range w.Addrs {
		p.add(&addressChange{Device: w.Device, Index: p.index(), Addr: a})
	}
	return nil
}

// sysctl plans to set a parameter that is not so already. Of the device's own,
// before there is a device, it is taken to have the default's value.
func (p *plan) sysctl(name, want string) {
	now, err := readSysctl(name)
	if errors.Is(err, os.ErrNotExist) && p.link == nil {
		now, err = readSysctl(strings.Replace(name, "/"+p.wish.Device+"/", "/default/", 1))
	}
	if other := wanted(p.others, name); other != nil {
		p.add(&sysctlChange{Path: name, Old: other.Old, New: want, Along: other.Along})
	} else if err == nil && now != want {
		p.add(&sysctlChange{Path: name, Old: now, New: want})
	}
}

// Families of addresses, in the order of all that is done for each.
var families = []int{unix.AF_INET, unix.AF_INET6}

func everything(family int) netip.Prefix {
	if family == unix.AF_INET {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// staysOnLink is what has no meaning beyond the link, whatever link that is; RFC
// 4291, section 2.5.6 and 2.7. What IPv4 has of the kind is found in the table
// local or, to a bound socket, without any table.
var staysOnLink = []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16")}

// carried returns the prefixes that go into the tunnel, without repetition.
func (w Wish) carried() []netip.Prefix {
	all := slices.Clone(w.Routes)
	for _, a := range w.Addrs {
		if own := a.Masked(); !own.IsSingleIP() && !own.Addr().IsLinkLocalUnicast() {
			all = append(all, own)
		}
	}
	if w.DNS.Mode != DNSOff {
		for _, s := range w.DNS.Servers {
			covers := func(p netip.Prefix) bool { return p.Contains(s) }
			if !slices.ContainsFunc(all, covers) && !slices.ContainsFunc(w.Exclude, covers) {
				all = append(all, netip.PrefixFrom(s, s.BitLen()))
			}
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}

// routes fills the tunnel's table.
func (p *plan) routes() error {
	w := &p.wish
	if w.Table == 0 {
		free, err := p.m.freeTable()
		if err != nil {
			return err
		}
		w.Table = free
	} else if err := p.m.tableFree(w.Table); err != nil {
		return err
	}
	for _, f := range families {
		if f == unix.AF_INET6 && !hasIPv6() {
			continue
		}
		p.familyRoutes(f)
	}
	return nil
}

func (p *plan) familyRoutes(f int) {
	w := p.wish
	of := func(all []netip.Prefix) (some []netip.Prefix) {
		for _, x := range all {
			if family(x.Addr()) == f {
				some = append(some, x)
			}
		}
		return some
	}
	carried := of(w.carried())
	if len(carried) == 0 && !w.Full() {
		return
	}
	refused := carried
	if w.Full() {
		refused = []netip.Prefix{everything(f)}
	}
	for _, x := range refused {
		p.add(&routeChange{Table: w.Table, Prefix: x, Type: unix.RTN_UNREACHABLE, Metric: worst})
	}
	for _, x := range carried {
		r := &routeChange{
			Table: w.Table, Prefix: x, Type: unix.RTN_UNICAST, Metric: 1, Device: w.Device, Index: p.index(),
			RTOMin: int(rtoMin.Milliseconds()),
		}
		if n := initialWindow(w.MTU); n != usualWindow {
			r.Window = n
		}
		p.add(r)
	}
	outside := append(of(w.Exclude), of(w.besides(carried))...)
	if f == unix.AF_INET6 && w.Full() {
		outside = append(outside, staysOnLink...)
	}
	slices.SortFunc(outside, netip.Prefix.Compare)
	for _, x := range slices.Compact(outside) {
		p.add(&routeChange{Table: w.Table, Prefix: x, Type: unix.RTN_THROW, Metric: 1})
	}
}

// far returns the carrier's ends that packets come back from over a network.
func (w Wish) far() []netip.AddrPort {
	all := slices.Clone(w.Carrier)
	for _, x := range w.Pins {
		all = append(all, x.Addr)
	}
	all = slices.DeleteFunc(all, func(a netip.AddrPort) bool { return onMachine(a.Addr()) })
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// onMachine reports whether packets to a never meet our rules: they stay on the
// machine or on the link.
func onMachine(a netip.Addr) bool {
	return a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast()
}

// filter plans the packet filter, and what reverse path filters need.
func (p *plan) filter() error {
	w := &p.wish
	if w.Mark == 0 {
		mark, err := p.m.freeMark()
		if err != nil {
			return err
		}
		w.Mark = mark
	}
	far := w.far()
	reverse := reversePathFilters() && slices.ContainsFunc(far, func(a netip.AddrPort) bool { return a.Addr().Is4() })
	if !hasNFT() {
		p.note("this kernel has no nftables: packets to the tunnel's addresses are taken from anywhere")
		if reverse {
			// The kernel asks the rules for the way back as user 0.
			p.note("rp_filter is on: root's own connections to the carrier's far end go around the tunnel")
			for _, a := range far {
				w.Pins = append(slices.Clone(w.Pins), Pin{Addr: a, UID: 0})
			}
		}
		return nil
	}
	c := &nftChange{Name: tableName(w.Name), Device: w.Device, Far: far, Mark: w.Mark, Errors: reverse}
	for _, a := range w.Addrs {
		c.Addrs = append(c.Addrs, a.Addr())
	}
	if there, err := c.present(p.m); err != nil {
		return fmt.Errorf("host: nftables: %w", err)
	} else if there {
		return fmt.Errorf("host: nftables table %s exists, and no journal says that it is ours", c.Name)
	}
	p.add(c)
	if reverse {
		p.sysctl("net/ipv4/conf/all/src_valid_mark", "1")
	}
	return nil
}

// tableName is how the machine's other users meet the tunnel: in nftables, and
// beside resolv.conf.
func tableName(name string) string { return "bodkin-" + name }

// reversePathFilters reports whether the kernel looks up the way back of IPv4
// packets on any device, or will on the next one. Strict (1) drops a reply that
// comes in beside the tunnel; loose (2) drops it too while the tunnel's table
// refuses its source.
func reversePathFilters() bool {
	devices, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return false
	}
	for _, d := range devices {
		if v, err := readSysctl(path.Join("net/ipv4/conf", d.Name(), "rp_filter")); err == nil && v != "0" {
			return true
		}
	}
	return false
}

// connections plans the end of what is open from the tunnel's addresses: taken
// back before the rules are, so that it has nowhere else to go.
func (p *plan) connections() error {
	c := new(connectionsChange)
	if p.link == nil || p.link.Attrs().Flags&net.FlagUp == 0 {
		c.Device, c.Index = p.wish.Device, p.index()
	}
	for _, a := range p.wish.Addrs {
		c.Addrs = append(c.Addrs, a.Addr())
	}
	p.add(c)
	return nil
}

// names plans how programs find the tunnel's name servers.
func (p *plan) names() error {
	w := p.wish
	if len(w.DNS.Servers) == 0 || w.DNS.Mode == DNSOff {
		return nil
	}
	now, mounted, err := lookAt(resolvConf)
	if err != nil {
		return fmt.Errorf("host: DNS: %w", err)
	}
	resolved, file := false, true
	if w.DNS.Mode != DNSFile {
		resolved = resolvedRuns()
		file = !resolved || !asksStub(followed(now))
	}
	if w.DNS.Mode == DNSResolved && !resolved {
		return errors.New("host: DNS: systemd-resolved does not run")
	}
	if resolved {
		p.add(&resolvedChange{Device: w.Device, Index: p.index(), Servers: w.DNS.Servers, Domains: w.DNS.Domains})
	}
	switch {
	case !file:
		return nil
	case w.DNS.Forwarder.IsValid():
		p.ownServers(followed(now))
	case len(w.DNS.Domains) > 0 && resolved:
		p.note("programs that read %s do not find %s: it names other servers than systemd-resolved", resolvConf, strings.Join(w.DNS.Domains, ", "))
		return nil
	case len(w.DNS.Domains) > 0:
		return fmt.Errorf("host: DNS: %w", ErrSplitDNS)
	}
	return p.resolvConf(now, mounted)
}

// ownServers says which of the machine's own name servers the tunnel takes.
func (p *plan) ownServers(conf []byte) {
	for _, s := range nameServers(conf) {
		has := func(x netip.Prefix) bool { return x.Contains(s) }
		if !onMachine(s) && slices.ContainsFunc(p.wish.carried(), has) && !slices.ContainsFunc(p.wish.Exclude, has) {
			p.note("the machine's own name server %v is asked through the tunnel: exclude it if it is on this side", s)
		}
	}
}

// followed returns the text behind a link, or nil.
func followed(s fileState) []byte {
	if s.Kind == "link" {
		// The target's manager may change it as it likes: we only look.
		text, err := os.ReadFile(resolvConf)
		if err != nil || len(text) > maxResolvConf {
			return nil
		}
		return text
	}
	return s.Text
}

func (p *plan) resolvConf(now fileState, mounted bool) error {
	for _, j := range p.others {
		for i, c := range j.changes {
			if c, ok := c.(*resolvConfChange); ok && j.whole && j.lines[i].Begun && c.Path == resolvConf {
				return fmt.Errorf("host: DNS: %s belongs to the tunnel %s: only one can have it", resolvConf, j.name)
			}
		}
	}
	c := &resolvConfChange{
		Path: resolvConf, Aside: resolvConf + "." + tableName(p.wish.Name), Old: now,
		New: resolvConfText(p.wish.Name, p.wish.DNS.Servers),
	}
	if f := p.wish.DNS.Forwarder; f.IsValid() {
		c.New = splitConfText(p.wish.Name, f, followed(now))
	}
	if mounted {
		c.Aside, c.New = "", padded(c.New, len(now.Text))
	} else if exists(c.Aside) {
		return fmt.Errorf("host: DNS: %s is there, and no journal says that it is ours", c.Aside)
	}
	p.add(c)
	return nil
}
