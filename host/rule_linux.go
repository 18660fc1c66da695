package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A ruleChange adds one rule of policy routing.
type ruleChange struct {
	Family   int    `json:"family"` // AF_INET, AF_INET6
	Priority int    `json:"priority"`
	NotMark  uint32 `json:"not_mark,omitempty"` // packets without this mark; 0: all
	Table    int    `json:"table"`

	To  netip.AddrPort `json:"to,omitzero"` // TCP to this address and port alone
	UID int            `json:"uid"`         // of this user alone; -1: everybody's
}

func (c *ruleChange) String() string { return "ip " + c.text("add") }

func (c *ruleChange) text(verb string) string {
	s := fmt.Sprintf("%srule %s priority %d", familyFlag(c.Family), verb, c.Priority)
	if c.NotMark != 0 {
		s += fmt.Sprintf(" not fwmark %#x", c.NotMark)
	}
	if c.To.IsValid() {
		s += fmt.Sprintf(" to %v ipproto tcp dport %d", c.To.Addr(), c.To.Port())
	}
	if c.UID >= 0 {
		s += fmt.Sprintf(" uidrange %d-%d", c.UID, c.UID)
	}
	table := fmt.Sprint(c.Table)
	switch c.Table {
	case unix.RT_TABLE_MAIN:
		table = "main"
	case unix.RT_TABLE_LOCAL:
		table = "local"
	}
	return s + fmt.Sprintf(" lookup %s protocol %d", table, protocol)
}

func (c *ruleChange) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Protocol = c.Family, c.Priority, c.Table, protocol
	if c.NotMark != 0 {
		full := ^uint32(0)
		r.Invert, r.Mark, r.Mask = true, c.NotMark, &full
	}
	if c.To.IsValid() {
		a := c.To.Addr()
		r.Dst = ipNet(netip.PrefixFrom(a, a.BitLen()))
		r.IPProto = unix.IPPROTO_TCP
		r.Dport = netlink.NewRulePortRange(c.To.Port(), c.To.Port())
	}
	if c.UID >= 0 {
		r.UIDRange = netlink.NewRuleUIDRange(uint32(c.UID), uint32(c.UID))
	}
	return r
}

// is compares all that a rule can have, so that a stranger's rule with one more
// condition than ours is told from ours.
func (c *ruleChange) is(r netlink.Rule) bool {
	w := c.rule()
	return r.Family == w.Family && r.Priority == w.Priority && r.Table == w.Table && r.Protocol == w.Protocol &&
		r.Invert == w.Invert && r.Mark == w.Mark && (w.Mask == nil || r.Mask != nil && *r.Mask == *w.Mask) &&
		prefix(r.Dst) == prefix(w.Dst) && r.Src == nil && r.IPProto == w.IPProto && r.Tos == 0 &&
		r.IifName == "" && r.OifName == "" && r.TunID == 0 && r.Goto <= 0 && r.Sport == nil &&
		equal(r.Dport, w.Dport) && equal(r.UIDRange, w.UIDRange) &&
		r.SuppressPrefixlen == w.SuppressPrefixlen && r.SuppressIfgroup == w.SuppressIfgroup
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (c *ruleChange) do(m *machine) error { return m.nl.RuleAdd(c.rule()) }

func (c *ruleChange) undo(m *machine) (string, error) {
	if there, err := c.present(m); !there || err != nil {
		return "", err
	}
	err := m.nl.RuleDel(c.rule())
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	return "ip " + c.text("del"), err
}

func (c *ruleChange) present(m *machine) (bool, error) {
	have, err := m.rules(c.Family)
	for _, r := range have {
		if c.is(r) {
			return true, nil
		}
	}
	return false, err
}

func (c *ruleChange) lasts() bool { return false }
