package lab

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// outageTable is the firewall's table that makes an outage.
const outageTable = "outage"

// Outage makes everything vanish that the firewall would pass, in silence, until Restore.
func (l *Lab) Outage() error { return l.vanish(nil) }

// Forget makes what belongs to TCP connections vanish that the laptop has from these
// ports, as a NAT does that has forgotten them. All others pass. It takes the place of
// any outage before it.
func (l *Lab) Forget(ports ...uint16) error { return l.vanish(ports) }

// Restore ends an outage.
func (l *Lab) Restore() error {
	c, err := nftables.New(nftables.WithNetNSFd(l.Firewall.ns.net))
	if err == nil {
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: outageTable})
		err = c.Flush()
	}
	if err != nil {
		return fmt.Errorf("lab: firewall: ending an outage: %w", err)
	}
	return nil
}

// vanish drops what the firewall forwards: everything, or what goes to or comes from
// ports of the laptop.
func (l *Lab) vanish(ports []uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(l.Firewall.ns.net))
	if err != nil {
		return fmt.Errorf("lab: firewall: opening nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: outageTable})
	c.FlushTable(table)
	policy := nftables.ChainPolicyDrop
	if ports != nil {
		policy = nftables.ChainPolicyAccept
	}
	before := nftables.ChainPriority(*nftables.ChainPriorityFilter - 1)
	forward := c.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: &before, Policy: &policy,
	})
	for _, port := range ports {
		for _, d := range []direction{fromIt, toIt} {
			device := iif("eth0")
			if d == toIt {
				device = oif("eth0")
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: dropping(device, tcp(), portIs(port, d))})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lab: firewall: making an outage: %w", err)
	}
	return nil
}

func dropping(matches ...[]expr.Any) (exprs []expr.Any) {
	for _, m := range matches {
		exprs = append(exprs, m...)
	}
	return append(exprs, &expr.Verdict{Kind: expr.VerdictDrop})
}

// The other network that the laptop may move to: another address, another router, and
// another device of the laptop's. Of the gateway the same ports are reached.
var (
	Elsewhere4 = netip.MustParseAddr("100.64.7.10") // the laptop's
	Elsewhere6 = netip.MustParseAddr("2001:db8:7::10")

	elsewhereRouter4 = netip.MustParseAddr("100.64.7.1")
	elsewhereRouter6 = netip.MustParseAddr("2001:db8:7::1")
)

// ElsewhereDevice is the laptop's device in the other network.
const ElsewhereDevice = "wlan0"

// Elsewhere makes the other network ready, for Move. Leaks does not look there.
func (l *Lab) Elsewhere(ctx context.Context) error {
	here := end{l.Laptop, ElsewhereDevice, nil}
	router := end{l.Firewall, "wlan0", nets(elsewhereRouter4, 24, elsewhereRouter6, 64)}
	if err := cable(ctx, here, router); err != nil {
		return err
	}
	for _, r := range []route{{l.Gateway, "100.64.7.0/24", firewallOut4}, {l.Gateway, "2001:db8:7::/64", firewallOut6}} {
		if err := r.add(); err != nil {
			return err
		}
	}
	c, err := nftables.New(nftables.WithNetNSFd(l.Firewall.ns.net))
	if err != nil {
		return fmt.Errorf("lab: firewall: opening nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"}
	chain := &nftables.Chain{Name: "forward", Table: table}
	for _, port := range l.passage().ports {
		for _, gateway := range []netip.Addr{Gateway4, Gateway6} {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: accept(
				iif("wlan0"), address(gateway, toIt), tcp(), portIs(port, toIt))})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lab: firewall: letting the other network through: %w", err)
	}
	return nil
}

// Move takes the laptop out of its network, with its addresses and routes, into the one
// that Elsewhere has made, as a laptop does that changes from cable to Wi-Fi.
func (l *Lab) Move() error {
	old, err := l.Laptop.netlink.LinkByName("eth0")
	if err == nil {
		err = l.Laptop.netlink.LinkSetDown(old) // which takes its routes
	}
	if err != nil {
		return fmt.Errorf("lab: laptop: setting eth0 down: %w", err)
	}
	addrs, err := l.Laptop.netlink.AddrList(old, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("lab: laptop: listing addresses: %w", err)
	}
	for _, a := range addrs {
		if err := l.Laptop.netlink.AddrDel(old, &a); err != nil && err != unix.EADDRNOTAVAIL {
			return fmt.Errorf("lab: laptop: removing %v: %w", a.IPNet, err)
		}
	}
	if err := l.Laptop.addAddrs(ElsewhereDevice, nets(Elsewhere4, 24, Elsewhere6, 64)); err != nil {
		return err
	}
	for _, r := range []route{{l.Laptop, "0.0.0.0/0", elsewhereRouter4}, {l.Laptop, "::/0", elsewhereRouter6}} {
		if err := r.add(); err != nil {
			return err
		}
	}
	return nil
}
