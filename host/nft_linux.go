package host

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// An nftChange adds the tunnel's packet filter: a table of the family inet and
// one of the family arp, in one transaction.
//
// Packets to the tunnel's addresses that come in beside the tunnel are dropped,
// and so are ARP questions for them: a neighbour can neither find the address nor
// probe what it talks to (CVE-2019-14899).
//
// Packets from the carrier's far ends get the carrier's mark. The kernel then
// looks up the way back to them as it does for the carrier's own packets, in the
// table main, and a reverse path filter lets them in: rp_filter with
// src_valid_mark, or nftables' fib expression as firewalld uses it.
type nftChange struct {
	Name   string           `json:"name"` // of both tables
	Device string           `json:"device"`
	Addrs  []netip.Addr     `json:"addrs"`
	Far    []netip.AddrPort `json:"far,omitempty"`
	Mark   uint32           `json:"mark"`

	// Errors says to mark ICMP's "fragmentation needed" too, whoever sends it: the
	// carrier's path MTU discovery lives on it.
	Errors bool `json:"errors,omitempty"`
}

// rawPriority is before connection tracking and before the reverse path filters
// of other tables.
const rawPriority = -300

func (c *nftChange) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	chain := "nft add rule inet " + c.Name + " prerouting "
	line("nft add table inet %s", c.Name)
	line("nft add chain inet %s prerouting { type filter hook prerouting priority raw; }", c.Name)
	for _, f := range c.Far {
		line(chain+"iifname != %q %s saddr %v tcp sport %d meta mark set %#x", c.Device, ipWord(f.Addr()), f.Addr(), f.Port(), c.Mark)
	}
	if c.Errors {
		line(chain+"iifname != %q icmp type destination-unreachable icmp code frag-needed meta mark set %#x", c.Device, c.Mark)
	}
	for _, a := range c.Addrs {
		line(chain+"iifname != %q iifname != \"lo\" %s daddr %v drop", c.Device, ipWord(a), a)
	}
	line("nft add table arp %s", c.Name)
	line("nft add chain arp %s input { type filter hook input priority filter; }", c.Name)
	for _, a := range c.Addrs {
		if a.Is4() {
			line("nft add rule arp %s input iifname != %q arp daddr ip %v drop", c.Name, c.Device, a)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func ipWord(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}

// hasNFT reports whether the kernel has nftables and we may use them. Tests
// say no for a kernel that has them.
var hasNFT = func() bool {
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	_, err = conn.ListTables()
	return err == nil
}

func (c *nftChange) do(m *machine) error {
	err := c.add(true)
	if absent(err) {
		if err = c.add(false); err == nil {
			m.note("this kernel cannot filter ARP: neighbours can find the tunnel's addresses")
		}
	}
	if absent(err) && !c.Errors {
		m.note("this kernel cannot filter as wanted (%v): packets to the tunnel's addresses are taken from anywhere", err)
		return nil
	}
	return err
}

// absent reports whether err is how the kernel says that it was built without
// something.
func absent(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (c *nftChange) add(arp bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	inet := conn.CreateTable(&nftables.Table{Name: c.Name, Family: nftables.TableFamilyINet})
	prerouting := conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: inet, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(rawPriority),
	})
	rule := func(parts ...[]expr.Any) {
		r := &nftables.Rule{Table: inet, Chain: prerouting}
		for _, p := range parts {
			r.Exprs = append(r.Exprs, p...)
		}
		conn.AddRule(r)
	}
	for _, f := range c.Far {
		rule(notFrom(c.Device), source(f.Addr()), tcpFrom(f.Port()), setMark(c.Mark))
	}
	if c.Errors {
		rule(notFrom(c.Device), isIP(unix.NFPROTO_IPV4), fragNeeded(), setMark(c.Mark))
	}
	for _, a := range c.Addrs {
		rule(notFrom(c.Device), notFrom("lo"), destination(a), drop())
	}
	if arp {
		table := conn.CreateTable(&nftables.Table{Name: c.Name, Family: nftables.TableFamilyARP})
		input := conn.AddChain(&nftables.Chain{
			Name: "input", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum:  nftables.ChainHookRef(0), // NF_ARP_IN
			Priority: nftables.ChainPriorityFilter,
		})
		for _, a := range c.Addrs {
			if a.Is4() {
				exprs := append(notFrom(c.Device), arpFor(a)...)
				conn.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: append(exprs, drop()...)})
			}
		}
	}
	return conn.Flush()
}

func (c *nftChange) undo(*machine) (string, error) {
	deleted, err := deleteTables(c.Name)
	if !deleted {
		return "", err
	}
	return "nft delete table " + c.Name, nil
}

// deleteTables deletes the tables of that name, and reports whether there were any.
func deleteTables(name string) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, nil // no nftables: then there is no table either
	}
	ours, err := tablesNamed(conn, name)
	if len(ours) == 0 || err != nil {
		return false, err
	}
	for _, t := range ours {
		conn.DelTable(t)
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, err
	}
	return true, nil
}

// tablesNamed returns the tables of that name in the families that ours have.
func tablesNamed(conn *nftables.Conn, name string) (ours []*nftables.Table, err error) {
	all, err := conn.ListTables()
	for _, t := range all {
		if t.Name == name && (t.Family == nftables.TableFamilyINet || t.Family == nftables.TableFamilyARP) {
			ours = append(ours, t)
		}
	}
	if absent(err) {
		return nil, nil
	}
	return ours, err
}

func (c *nftChange) present(m *machine) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	ours, err := tablesNamed(conn, c.Name)
	return len(ours) > 0, err
}

func (c *nftChange) lasts() bool { return false }

// The conditions and verdicts, each as nft(8) has it.

func notFrom(device string) []expr.Any { // iifname != DEVICE
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
	}
}

func isIP(protocol byte) []expr.Any { // meta nfproto PROTOCOL
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

func source(a netip.Addr) []expr.Any { // ip saddr A; RFC 791, section 3.1; RFC 8200, section 3
	if a.Is4() {
		return append(isIP(unix.NFPROTO_IPV4), is(expr.PayloadBaseNetworkHeader, 12, a.AsSlice())...)
	}
	return append(isIP(unix.NFPROTO_IPV6), is(expr.PayloadBaseNetworkHeader, 8, a.AsSlice())...)
}

func destination(a netip.Addr) []expr.Any { // ip daddr A
	if a.Is4() {
		return append(isIP(unix.NFPROTO_IPV4), is(expr.PayloadBaseNetworkHeader, 16, a.AsSlice())...)
	}
	return append(isIP(unix.NFPROTO_IPV6), is(expr.PayloadBaseNetworkHeader, 24, a.AsSlice())...)
}

func is(base expr.PayloadBase, offset uint32, octets []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(octets))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: bytes.Clone(octets)},
	}
}

func transport(protocol byte) []expr.Any { // meta l4proto PROTOCOL
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

func tcpFrom(port uint16) []expr.Any { // tcp sport PORT
	return append(transport(unix.IPPROTO_TCP), is(expr.PayloadBaseTransportHeader, 0, binaryutil.BigEndian.PutUint16(port))...)
}

func fragNeeded() []expr.Any { // icmp type 3, code 4; RFC 1191, section 4
	return append(transport(unix.IPPROTO_ICMP), is(expr.PayloadBaseTransportHeader, 0, []byte{3, 4})...)
}

func arpFor(a netip.Addr) []expr.Any { // arp ptype ip, hlen 6, plen 4, daddr ip A; RFC 826
	return append(is(expr.PayloadBaseNetworkHeader, 2, []byte{8, 0, 6, 4}), is(expr.PayloadBaseNetworkHeader, 24, a.AsSlice())...)
}

func setMark(mark uint32) []expr.Any { // meta mark set MARK
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }
