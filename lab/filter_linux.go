package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A passage is what the laptop may send: TCP to two addresses of one machine.
type passage struct {
	four, six netip.Addr
	ports     []uint16 // nil: every port
}

// passage is where the laptop's one way out begins.
func (l *Lab) passage() passage {
	if l.options.Closed {
		return passage{four: FirewallInside4, six: FirewallInside6}
	}
	return passage{Gateway4, Gateway6, append([]uint16{SSHPort}, l.options.AllowTCP...)}
}

// allows reports whether TCP to an address and port is within the passage.
func (p passage) allows(to netip.Addr, port uint16) bool {
	return (to == p.four || to == p.six) && (p.ports == nil || slices.Contains(p.ports, port))
}

// filter sets up the firewall, and the internet's black hole.
//
// The firewall keeps no state: a packet passes if it is TCP between the laptop
// and an allowed port of the gateway. The rest is dropped in silence, also what
// is meant for the firewall itself; only neighbours may find each other.
//
// With a private network it passes what goes between the two cables of the same side
// besides: the laptop's, and that of the private network or of the internet.
//
// A closed one passes nothing, but takes TCP that is meant for itself: the laptop's
// at its inside addresses, and the gateway's answers.
func (l *Lab) filter() error {
	c, err := nftables.New(nftables.WithNetNSFd(l.Firewall.ns.net))
	if err != nil {
		return fmt.Errorf("lab: firewall: opening nftables: %w", err)
	}
	drop := nftables.ChainPolicyDrop
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewall"})
	forward := c.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	gateways := []netip.Addr{Gateway4, Gateway6}
	if l.options.Corp == CorpAroundGateway {
		gateways = append(gateways, CorpGateway4, CorpGateway6)
	}
	for _, port := range l.passage().ports {
		for _, gateway := range gateways {
			c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: accept(
				iif("eth0"), address(gateway, toIt), tcp(), portIs(port, toIt))})
			c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: accept(
				iif("eth1"), address(gateway, fromIt), tcp(), portIs(port, fromIt))})
		}
	}
	if l.Corp != nil {
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: accept(iif("eth0"), oif("eth2"))})
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: accept(iif("eth2"), oif("eth0"))})
	}
	input := c.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: accept(neighbours())})
	if l.options.Closed {
		for _, own := range [][]expr.Any{
			accept(iif("lo")),
			accept(iif("eth0"), address(FirewallInside4, toIt), tcp()),
			accept(iif("eth0"), address(FirewallInside6, toIt), tcp()),
			accept(iif("eth1"), address(Gateway4, fromIt), tcp()),
			accept(iif("eth1"), address(Gateway6, fromIt), tcp()),
		} {
			c.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: own})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lab: firewall: setting up the filter: %w", err)
	}

	c, err = nftables.New(nftables.WithNetNSFd(l.Internet.ns.net))
	if err != nil {
		return fmt.Errorf("lab: internet: opening nftables: %w", err)
	}
	table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "hole"})
	hole := c.AddChain(&nftables.Chain{
		Name: "input", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	for _, a := range []netip.Addr{Hole4, Hole6} {
		c.AddRule(&nftables.Rule{Table: table, Chain: hole, Exprs: append(address(a, toIt), &expr.Verdict{Kind: expr.VerdictDrop})})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lab: internet: making the black hole: %w", err)
	}
	return nil
}

// A direction says which of a packet's two addresses or ports is meant.
type direction int

const (
	fromIt direction = iota
	toIt
)

func accept(matches ...[]expr.Any) (exprs []expr.Any) {
	for _, m := range matches {
		exprs = append(exprs, m...)
	}
	return append(exprs, &expr.Verdict{Kind: expr.VerdictAccept})
}

func equals(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

func iif(name string) []expr.Any { return device(expr.MetaKeyIIFNAME, name) }
func oif(name string) []expr.Any { return device(expr.MetaKeyOIFNAME, name) }

func device(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, equals(padded...)}
}

func tcp() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals(unix.IPPROTO_TCP)}
}

// address matches a header that holds a. Offsets: RFC 791, section 3.1; RFC 8200,
// section 3.
func address(a netip.Addr, d direction) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), []uint32{12, 16}[d]
	if a.Is6() {
		family, offset = unix.NFPROTO_IPV6, []uint32{8, 24}[d]
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equals(family),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		equals(a.AsSlice()...),
	}
}

// portIs matches a TCP or UDP port (RFC 9293, section 3.1).
func portIs(port uint16, d direction) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: []uint32{0, 2}[d], Len: 2},
		equals(binary.BigEndian.AppendUint16(nil, port)...),
	}
}

// neighbours matches solicitations and advertisements of neighbours: ICMPv6 types
// 135 and 136 (RFC 4861, section 4). ARP does not pass here.
func neighbours() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equals(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{135}, ToData: []byte{136}},
	}
}
