package lab

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestSnapshot(t *testing.T) {
	l := sharedLab(t)
	m := l.Laptop
	snapshot := func() string {
		t.Helper()
		s, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := snapshot()
	if d := Difference(before, snapshot()); len(d) != 0 {
		t.Fatalf("nothing changed, yet %q", d)
	}
	route := &netlink.Route{Dst: ipNet(netip.MustParsePrefix("203.0.113.0/25")), Gw: FirewallInside4.AsSlice(), Table: 77}
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Mark, rule.Invert = 500, 77, 0xb0d, true
	addr := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.9.9.9/32"))}
	lo, err := m.netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		do, undo   func() error
	}{
		{"route", "203.0.113.0/25 dev eth0",
			func() error { return m.netlink.RouteAdd(route) }, func() error { return m.netlink.RouteDel(route) }},
		{"rule", `"Priority":500`,
			func() error { return m.netlink.RuleAdd(rule) }, func() error { return m.netlink.RuleDel(rule) }},
		{"address", "lo address 10.9.9.9/32",
			func() error { return m.netlink.AddrAdd(lo, addr) }, func() error { return m.netlink.AddrDel(lo, addr) }},
		{"nftables", "rule Meta",
			func() error {
				return m.changeTable(func(c *nftables.Conn, table *nftables.Table) {
					chain := c.AddChain(&nftables.Chain{Name: "c", Table: c.AddTable(table)})
					c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: accept(iif("eth0"))})
				})
			},
			func() error { return m.changeTable((*nftables.Conn).DelTable) }},
		{"sysctl", "eth0/rp_filter = 1",
			func() error { return m.SetSysctl("net/ipv4/conf/eth0/rp_filter", "1") },
			func() error { return m.SetSysctl("net/ipv4/conf/eth0/rp_filter", "2") }},
		{"resolv.conf", `"nameserver 10.0.2.3\n"`,
			func() error { return m.SetResolvConf(ResolvFile, "10.0.2.3") },
			func() error { return m.SetResolvConf(ResolvFile, FirewallInside4.String()) }},
		{"symlink", "link to ../run/manager/resolv.conf",
			func() error { return m.SetResolvConf(ResolvSymlink, FirewallInside4.String()) },
			func() error { return m.SetResolvConf(ResolvFile, FirewallInside4.String()) }},
		{"dangling", "dangling",
			func() error { return m.SetResolvConf(ResolvDangling) },
			func() error { return m.SetResolvConf(ResolvFile, FirewallInside4.String()) }},
		{"bind mount", "mounted",
			func() error { return m.SetResolvConf(ResolvBind, FirewallInside4.String()) },
			func() error { return m.SetResolvConf(ResolvFile, FirewallInside4.String()) }},
		{"missing", "not there",
			func() error { return m.SetResolvConf(ResolvMissing) },
			func() error { return m.SetResolvConf(ResolvFile, FirewallInside4.String()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			if d := Difference(before, snapshot()); !slices.ContainsFunc(d, func(l string) bool {
				return strings.HasPrefix(l, "+ ") && strings.Contains(l, tt.want)
			}) {
				t.Errorf("got %q, want %q among what came", d, tt.want)
			}
			if err := tt.undo(); err != nil {
				t.Fatal(err)
			}
			if d := Difference(before, snapshot()); len(d) != 0 {
				t.Errorf("after the way back: %q", d)
			}
		})
	}
}

// changeTable makes one change of the nftables table "test".
func (m *Machine) changeTable(change func(c *nftables.Conn, table *nftables.Table)) error {
	c, err := nftables.New(nftables.WithNetNSFd(m.ns.net))
	if err != nil {
		return err
	}
	change(c, &nftables.Table{Family: nftables.TableFamilyINet, Name: "test"})
	return c.Flush()
}

// TestSnapshotOfWhatGoes: a table of nftables that goes between two of a snapshot's
// questions does not make it fail.
func TestSnapshotOfWhatGoes(t *testing.T) {
	m := sharedLab(t).Laptop
	enough := make(chan struct{})
	var changes sync.WaitGroup
	defer changes.Wait()
	defer close(enough)
	changes.Go(func() {
		for {
			err := m.changeTable(func(c *nftables.Conn, table *nftables.Table) {
				c.AddChain(&nftables.Chain{Name: "c", Table: c.AddTable(table)})
			})
			if err == nil {
				err = m.changeTable((*nftables.Conn).DelTable)
			}
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-enough:
				return
			default:
			}
		}
	})
	for range 200 {
		if _, err := m.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
}
