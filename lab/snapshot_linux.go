package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// snapshotPatience is for how long a part that could not be described is described again:
// that takes several questions, and a tunnel that ends takes several things with it between
// them. Whatever the error: that of a table which went is only text (nftables.GetRules,
// GetSets).
const (
	snapshotPatience = 2 * time.Second
	snapshotPause    = 10 * time.Millisecond
)

// Snapshot describes the machine's network as text, the same for the same state:
// devices, addresses, rules, the routes of all tables, nftables, the sysctls of
// every device and /etc/resolv.conf in type, mode, owner and content. Counters,
// timers, device numbers and what the kernel learns by itself are left out.
func (m *Machine) Snapshot() (string, error) {
	var b strings.Builder
	for _, part := range []struct {
		title string
		lines func() ([]string, error)
	}{
		{"addresses", m.linkLines},
		{"rules", m.ruleLines},
		{"routes", m.routeLines},
		{"nftables", m.nftLines},
		{"sysctls", m.sysctlLines},
		{"resolv.conf", m.resolvLines},
	} {
		lines, err := part.lines()
		for end := time.Now().Add(snapshotPatience); err != nil && time.Now().Before(end); {
			time.Sleep(snapshotPause) // between two looks
			lines, err = part.lines()
		}
		if err != nil {
			return "", fmt.Errorf("lab: %s: describing %s: %w", m.Name, part.title, err)
		}
		fmt.Fprintf(&b, "# %s\n", part.title)
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	return b.String(), nil
}

// Difference lists the lines that only one of two snapshots has: "- " those that
// went, "+ " those that came.
func Difference(before, after string) []string {
	old, new := make(map[string]int), make(map[string]int)
	for l := range strings.Lines(before) {
		old[l]++
	}
	var lines []string
	for l := range strings.Lines(after) {
		if old[l] > 0 {
			old[l]--
			continue
		}
		new[l]++
	}
	for l := range strings.Lines(before) {
		if old[l] > 0 {
			old[l]--
			lines = append(lines, "- "+strings.TrimSuffix(l, "\n"))
		}
	}
	for l := range strings.Lines(after) {
		if new[l] > 0 {
			new[l]--
			lines = append(lines, "+ "+strings.TrimSuffix(l, "\n"))
		}
	}
	if len(lines) == 0 && before != after {
		lines = append(lines, "the same lines in another order")
	}
	return lines
}

func (m *Machine) linkLines() (lines []string, err error) {
	links, err := m.netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		a := link.Attrs()
		lines = append(lines, fmt.Sprintf("%s %s mtu %d flags %v state %v mac %v queue %d", a.Name, link.Type(), a.MTU, a.Flags, a.OperState, a.HardwareAddr, a.TxQLen))
		addrs, err := m.netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			lines = append(lines, fmt.Sprintf("%s address %v peer %v label %q scope %d flags 0x%x forever %v", a.Name, addr.IPNet, addr.Peer, addr.Label, addr.Scope, addr.Flags, addr.ValidLft == 0))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func (m *Machine) ruleLines() (lines []string, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := m.netlink.RuleList(family)
		if err != nil {
			return nil, err
		}
		for _, r := range rules { // the order is the kernel's, and matters
			line, err := plain(r)
			if err != nil {
				return nil, err
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func (m *Machine) routeLines() (lines []string, err error) {
	links, err := m.netlink.LinkList()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string)
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := m.netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			device := names[r.LinkIndex]
			r.LinkIndex = 0 // the same device has another number when it is made again
			line, err := plain(r)
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("%v dev %s %s", r.Dst, device, line))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func (m *Machine) nftLines() (lines []string, err error) {
	c, err := nftables.New(nftables.WithNetNSFd(m.ns.net))
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("table %d %s flags %d", t.Family, t.Name, t.Flags))
		sets, err := c.GetSets(t)
		if err != nil {
			return nil, err
		}
		for _, s := range sets {
			elements, err := c.GetSetElements(s)
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("table %d %s set %s type %s elements %d", t.Family, t.Name, s.Name, s.KeyType.Name, len(elements)))
		}
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, err
	}
	for _, chain := range chains {
		where := fmt.Sprintf("table %d %s chain %s", chain.Table.Family, chain.Table.Name, chain.Name)
		line := where
		if chain.Hooknum != nil && chain.Priority != nil {
			line += fmt.Sprintf(" type %s hook %d priority %d", chain.Type, *chain.Hooknum, *chain.Priority)
		}
		if chain.Policy != nil {
			line += fmt.Sprintf(" policy %d", *chain.Policy)
		}
		lines = append(lines, line)
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			line := where + " rule"
			for _, e := range r.Exprs {
				if _, ok := e.(*expr.Counter); ok {
					line += " counter"
					continue
				}
				text, err := plain(e)
				if err != nil {
					return nil, err
				}
				line += fmt.Sprintf(" %s%s", strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr."), text)
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// plain is a value's fields by name, pointers followed: the same for the same value.
func plain(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// sysctlLines reads what belongs to devices, and what decides about forwarding and
// ping sockets.
func (m *Machine) sysctlLines() (lines []string, err error) {
	err = m.Do(func() error {
		for _, root := range []string{"/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"} {
			err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if !d.IsDir() {
					lines = append(lines, sysctlLine(path))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		for _, name := range []string{"ipv4/ip_forward", "ipv4/ping_group_range", "ipv4/tcp_mtu_probing", "ipv4/fwmark_reflect", "ipv4/tcp_fwmark_accept", "ipv6/fwmark_reflect"} {
			lines = append(lines, sysctlLine("/proc/sys/net/"+name))
		}
		return nil
	})
	return lines, err
}

func sysctlLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("%s: %v", path, errors.Unwrap(err))
	}
	return fmt.Sprintf("%s = %s", path, strings.TrimSpace(string(b)))
}

func (m *Machine) resolvLines() (lines []string, err error) {
	const path = "/etc/resolv.conf"
	err = m.Do(func() error {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			lines = []string{"not there"}
			return nil
		}
		if err != nil {
			return err
		}
		line := fmt.Sprintf("mode %v", st.Mode())
		if own, ok := st.Sys().(*syscall.Stat_t); ok {
			line += fmt.Sprintf(" owner %d:%d", own.Uid, own.Gid)
		}
		lines = append(lines, line)
		if st.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			lines = append(lines, "link to "+target)
		}
		mounts, err := os.ReadFile("/proc/1/mounts") // process 1 is in the same mount namespace
		if err != nil {
			return err
		}
		if strings.Contains(string(mounts), " "+path+" ") {
			lines = append(lines, "mounted")
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			lines = append(lines, "dangling")
			return nil
		}
		lines = append(lines, fmt.Sprintf("%q", b))
		return err
	})
	return lines, err
}
