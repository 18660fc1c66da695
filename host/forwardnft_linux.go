package host

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A forwardChange adds the filter of a tunnel that the machine is a router for:
// one table of the family inet.
type forwardChange struct {
	Name       string         `json:"name"`
	Device     string         `json:"device"`
	To         []netip.Prefix `json:"to"` // where Device may send to; the narrower before the wider
	Masquerade bool           `json:"masquerade,omitempty"`
	Closed     []int          `json:"closed,omitempty"` // families of which the machine was no router
}

// forwardTable is the table's name. A tunnel's name has no dot, so it is no other
// tunnel's.
func forwardTable(name string) string { return tableName(name) + ".forward" }

// A filterRule is a rule of nftables, in words and as the kernel takes it.
type filterRule struct {
	words string
	exprs []expr.Any
}

func (r filterRule) and(words string, exprs []expr.Any) filterRule {
	if r.words != "" {
		words = r.words + " " + words
	}
	return filterRule{words, append(append([]expr.Any(nil), r.exprs...), exprs...)}
}

func (r filterRule) drop() filterRule   { return r.and("drop", drop()) }
func (r filterRule) accept() filterRule { return r.and("accept", accept()) }

// forwardRules returns the rules of the chain forward, in their order.
func (c *forwardChange) forwardRules() (all []filterRule) {
	in := filterRule{}.and(fmt.Sprintf("iifname %q", c.Device), device(expr.MetaKeyIIFNAME, c.Device))
	out := filterRule{}.and(fmt.Sprintf("oifname %q", c.Device), device(expr.MetaKeyOIFNAME, c.Device))
	add := func(r filterRule) { all = append(all, r) }

	for _, way := range []filterRule{in, out} {
		add(way.and("tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu", clampMSS()))
	}
	add(in.and(fmt.Sprintf("oifname %q", c.Device), device(expr.MetaKeyOIFNAME, c.Device)).drop())
	add(in.and("fib saddr . iif oif missing", notFromThere()).drop()) // a source that the way back does not lead to
	for _, way := range []filterRule{in, out} {
		add(way.and("ct state invalid", state(expr.CtStateBitINVALID)).drop()) // which would not be masqueraded
		add(way.and("ct state established,related", state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)).accept())
	}
	wide := false
	for _, p := range c.To {
		if p.Bits() == 0 && !wide {
			wide = true
			for _, n := range neverUnnamed {
				add(in.and(toWords("daddr", n), network(n, true)).drop())
			}
		}
		add(in.and(toWords("daddr", p), network(p, true)).accept())
		if p.Bits() > 0 {
			add(out.and(toWords("saddr", p), network(p, false)).accept())
		}
	}
	add(in.drop())
	add(out.drop())
	for _, f := range c.Closed {
		r := filterRule{}.and(toWords("", everything(f)), network(everything(f), true))
		r = r.and(fmt.Sprintf("iifgroup != %d oifgroup != %d", forwardGroup, forwardGroup), notOurs())
		add(r.drop())
	}
	return all
}

// masked returns what the chain postrouting masquerades, as conditions: first what
// has ports, then everything.
func (c *forwardChange) masked() (ports, all []filterRule) {
	all = []filterRule{filterRule{}.and(fmt.Sprintf("iifname %q", c.Device), device(expr.MetaKeyIIFNAME, c.Device))}
	for _, p := range c.To {
		if p.Bits() > 0 {
			out := filterRule{}.and(fmt.Sprintf("oifname %q", c.Device), device(expr.MetaKeyOIFNAME, c.Device))
			all = append(all, out.and(toWords("saddr", p), network(p, false)))
		}
	}
	for _, r := range all {
		ports = append(ports, r.and("meta l4proto tcp", transport(unix.IPPROTO_TCP)), r.and("meta l4proto udp", transport(unix.IPPROTO_UDP)))
	}
	return ports, all
}

func toWords(which string, p netip.Prefix) string {
	switch {
	case p.Bits() == 0 && p.Addr().Is4():
		return "meta nfproto ipv4"
	case p.Bits() == 0:
		return "meta nfproto ipv6"
	case p.IsSingleIP():
		return fmt.Sprintf("%s %s %v", ipWord(p.Addr()), which, p.Addr())
	}
	return fmt.Sprintf("%s %s %v", ipWord(p.Addr()), which, p)
}

func (c *forwardChange) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("nft add table inet %s", c.Name)
	line("nft add chain inet %s forward { type filter hook forward priority filter; }", c.Name)
	for _, r := range c.forwardRules() {
		line("nft add rule inet %s forward %s", c.Name, r.words)
	}
	if c.Masquerade {
		line("nft add chain inet %s postrouting { type nat hook postrouting priority srcnat; }", c.Name)
		ports, all := c.masked()
		for _, r := range ports {
			line("nft add rule inet %s postrouting %s masquerade to :%d-%d", c.Name, r.words, firstMasked, lastMasked)
		}
		for _, r := range all {
			line("nft add rule inet %s postrouting %s masquerade", c.Name, r.words)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// do fails where the kernel cannot filter as wanted: a router without its filter
// would be open to all.
func (c *forwardChange) do(*machine) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	policy := nftables.ChainPolicyAccept
	table := conn.CreateTable(&nftables.Table{Name: c.Name, Family: nftables.TableFamilyINet})
	forward := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, r := range c.forwardRules() {
		conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: r.exprs})
	}
	if c.Masquerade {
		postrouting := conn.AddChain(&nftables.Chain{
			Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT, Policy: &policy,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		_, all := c.masked()
		for _, r := range all {
			conn.AddRule(&nftables.Rule{Table: table, Chain: postrouting, Exprs: append(r.exprs, &expr.Masq{})})
		}
	}
	err = conn.Flush()
	if err == nil && c.Masquerade {
		err = c.masqueradePorts()
	}
	if absent(err) {
		return fmt.Errorf("this kernel cannot filter what it forwards: %w", err)
	}
	return err
}

func (c *forwardChange) undo(*machine) (string, error) {
	deleted, err := deleteTables(c.Name)
	if !deleted {
		return "", err
	}
	return "nft delete table inet " + c.Name, nil
}

func (c *forwardChange) present(*machine) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	ours, err := tablesNamed(conn, c.Name)
	return len(ours) > 0, err
}

func (c *forwardChange) lasts() bool { return false }

// More conditions, each as nft(8) has it.

func device(key expr.MetaKey, name string) []expr.Any { // iifname NAME, oifname NAME
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

// clampMSS lowers the MSS of a SYN to what fits the path of either direction: the
// kernel looks at both, and never raises one (nft_rt, nft_exthdr).
func clampMSS() []expr.Any {
	const synRst, syn = 0x06, 0x02 // RFC 9293, section 3.1: the flags, octet 13
	const maxseg = 2               // section 3.7.1: kind 2, the value two octets in
	return append(transport(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{synRst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: maxseg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	)
}

// notFromThere matches a source that the machine would answer by another device.
func notFromThere() []expr.Any { // fib saddr . iif oif missing
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

func state(bits uint32) []expr.Any { // ct state BITS
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// network is source and destination for prefixes.
func network(p netip.Prefix, to bool) []expr.Any { // ip daddr P, ip saddr P
	protocol, offset, size := byte(unix.NFPROTO_IPV4), uint32(12), 4 // RFC 791, section 3.1
	if p.Addr().Is6() {
		protocol, offset, size = unix.NFPROTO_IPV6, 8, 16 // RFC 8200, section 3
	}
	if to {
		offset += uint32(size)
	}
	exprs := isIP(protocol)
	if p.Bits() == 0 {
		return exprs
	}
	if p.Bits()%8 == 0 { // as nft does it
		return append(exprs, is(expr.PayloadBaseNetworkHeader, offset, p.Addr().AsSlice()[:p.Bits()/8])...)
	}
	return append(exprs,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), 8*size), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	)
}

func notOurs() (exprs []expr.Any) { // iifgroup != G oifgroup != G
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFGROUP, expr.MetaKeyOIFGROUP} {
		exprs = append(exprs, &expr.Meta{Key: key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(forwardGroup)})
	}
	return exprs
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
