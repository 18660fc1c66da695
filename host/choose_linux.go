package host

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where we begin to look for what is free. 0x626b is "bk".
const (
	firstMark  = 0x626b
	firstTable = 0x626b

	// tunnels is how many can be up at once, each with a slot in every class of
	// priorities.
	tunnels = 16

	// firstPriority is after the kernel's rule for local addresses (0), and
	// before those that other programs make: VRF 1000, Tailscale 5210,
	// systemd-networkd and wg-quick from 32765 down.
	firstPriority = 200
)

// The classes of our rules, in the order in which they are asked. What stays
// outside comes before every tunnel, and a tunnel for some prefixes before one
// for everything.
const (
	classPins  = firstPriority
	classSplit = classPins + tunnels
	classFull  = classSplit + tunnels
	classEnd   = classFull + tunnels
)

// FreeMark returns the fwmark for the carrier's sockets: the same for all tunnels
// of the machine, so that neither's carrier goes inside the other, and one that
// no rule of another program matches.
func FreeMark() (uint32, error) {
	m, err := openMachine()
	if err != nil {
		return 0, err
	}
	defer m.close()
	return m.freeMark()
}

func (m *machine) freeMark() (uint32, error) {
	var used []func(uint32) bool
	for _, f := range families {
		rules, err := m.rules(f)
		if err != nil {
			return 0, fmt.Errorf("host: listing rules: %w", err)
		}
		for _, r := range rules {
			if r.Mask != nil && *r.Mask != 0 && r.Mark != 0 && r.Protocol != protocol {
				mark, mask := r.Mark, *r.Mask
				used = append(used, func(x uint32) bool { return x&mask == mark })
			}
		}
	}
	for mark := uint32(firstMark); mark < firstMark+1<<16; mark++ {
		if !slices.ContainsFunc(used, func(match func(uint32) bool) bool { return match(mark) }) {
			return mark, nil
		}
	}
	return 0, errors.New("host: no mark is free: rules of other programs match all we tried")
}

// Marked returns a function for net.Dialer's Control that marks the socket: its
// packets then stay outside every tunnel with that mark. It needs CAP_NET_ADMIN.
func Marked(mark uint32) func(network, address string, c syscall.RawConn) error {
	return func(network, address string, c syscall.RawConn) error {
		var err error
		failed := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
		if err = errors.Join(failed, err); err != nil {
			return fmt.Errorf("host: marking the socket to %s with %#x: %w", address, mark, err)
		}
		return nil
	}
}

// tablesInUse returns the tables that any route or rule names.
func (m *machine) tablesInUse() (map[int]bool, error) {
	used := make(map[int]bool)
	for _, f := range families {
		rules, err := m.rules(f)
		if err != nil {
			return nil, fmt.Errorf("host: listing rules: %w", err)
		}
		for _, r := range rules {
			used[r.Table] = true
		}
		routes, err := m.routes(f, 0)
		if err != nil {
			return nil, fmt.Errorf("host: listing routes: %w", err)
		}
		for _, r := range routes {
			used[r.Table] = true
		}
	}
	return used, nil
}

func (m *machine) freeTable() (int, error) {
	used, err := m.tablesInUse()
	if err != nil {
		return 0, err
	}
	table := firstTable
	for used[table] {
		table++
	}
	return table, nil
}

func (m *machine) tableFree(table int) error {
	used, err := m.tablesInUse()
	if err == nil && used[table] {
		err = fmt.Errorf("host: table %d is in use", table)
	}
	return err
}

// rules plans the rules: what stays outside, and then the switch itself.
func (p *plan) rules() error {
	have := make(map[int][]int) // priorities in use
	local := make(map[int]bool) // local addresses come before us
	for _, f := range families {
		if f == unix.AF_INET6 && !hasIPv6() {
			continue
		}
		rules, err := p.m.rules(f)
		if err != nil {
			return fmt.Errorf("host: listing rules: %w", err)
		}
		for _, r := range rules {
			have[f] = append(have[f], r.Priority)
			plain := !r.Invert && r.Mark == 0 && r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == ""
			if r.Table == unix.RT_TABLE_LOCAL && plain && r.Priority < classPins {
				local[f] = true
			} else if r.Priority < classPins && r.Protocol != unix.RTPROT_KERNEL {
				p.note("a rule with priority %d comes before the tunnel's: what it matches may go around the tunnel", r.Priority)
			}
		}
	}
	slot, err := p.slot(append(have[unix.AF_INET], have[unix.AF_INET6]...))
	if err != nil {
		return err
	}
	class := classSplit
	if p.wish.Full() {
		class = classFull
	}
	for _, f := range families {
		if have[f] == nil {
			continue
		}
		if !local[f] && p.routed(f) {
			p.add(&ruleChange{Family: f, Priority: classPins + slot, Table: unix.RT_TABLE_LOCAL, UID: -1})
		}
		for _, pin := range p.wish.Pins {
			if family(pin.Addr.Addr()) == f && !onMachine(pin.Addr.Addr()) {
				p.addOnce(&ruleChange{Family: f, Priority: classPins + slot, Table: unix.RT_TABLE_MAIN, To: pin.Addr, UID: pin.UID})
			}
		}
	}
	for _, f := range []int{unix.AF_INET6, unix.AF_INET} {
		if p.routed(f) {
			p.add(&ruleChange{Family: f, Priority: class + slot, NotMark: p.wish.Mark, Table: p.wish.Table, UID: -1})
		}
	}
	return nil
}

// addOnce leaves out a rule that is planned already: the kernel refuses a second.
func (p *plan) addOnce(c *ruleChange) {
	for _, have := range p.changes {
		if r, ok := have.(*ruleChange); ok && *r == *c {
			return
		}
	}
	p.add(c)
}

// routed reports whether the plan has routes of that family.
func (p *plan) routed(f int) bool {
	return slices.ContainsFunc(p.changes, func(c change) bool {
		r, ok := c.(*routeChange)
		return ok && family(r.Prefix.Addr()) == f
	})
}

// slot returns the first place that is free in all classes.
func (p *plan) slot(used []int) (int, error) {
	if p.wish.Full() && slices.ContainsFunc(used, func(n int) bool { return n >= classFull && n < classEnd }) {
		return 0, errors.New("host: another tunnel takes everything already")
	}
	for slot := range tunnels {
		taken := func(n int) bool { return n == classPins+slot || n == classSplit+slot || n == classFull+slot }
		if !slices.ContainsFunc(used, taken) {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("host: no place among the rules %d to %d: at most %d tunnels", classPins, classEnd-1, tunnels)
}
