// Package hosttest writes down what a machine's network looks like, so that a
// test can say that it is again what it was.
package hosttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Snapshot writes the calling thread's network namespace to w as text, and
// /etc/resolv.conf as its mount namespace has it: devices, addresses, rules and
// routes of all tables for IPv4 and IPv6, nftables' ruleset, and the kernel's
// parameters for IP. Two snapshots are the same octets exactly if nothing of
// these differs. Left out is what the kernel changes by itself: counters, timers,
// the state of duplicate address detection, neighbours, and routes that it
// learned.
func Snapshot(w io.Writer) error {
	var b bytes.Buffer
	names, err := links(&b)
	for _, part := range []func(io.Writer, map[int]string) error{addrs, rules, routes, ruleset, sysctls, resolvConf} {
		if err == nil {
			err = part(&b, names)
		}
	}
	if err != nil {
		return fmt.Errorf("hosttest: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// lines writes one part: its heading, and its lines sorted.
func lines(w io.Writer, heading string, all []string) {
	slices.Sort(all)
	fmt.Fprintf(w, "== %s\n", heading)
	for _, l := range all {
		fmt.Fprintln(w, l)
	}
}

// whole repeats a dump that changed while it was read.
func whole[T any](dump func() (T, error)) (v T, err error) {
	for range 16 {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

func links(w io.Writer) (map[int]string, error) {
	all, err := whole(netlink.LinkList)
	names := map[int]string{0: "-"}
	var text []string
	for _, l := range all {
		a := l.Attrs()
		names[a.Index] = a.Name
		// Running and lower-up follow the device's user and the other end of a veth.
		text = append(text, fmt.Sprintf("%d %s %s mtu %d flags %#x master %d mac %v", a.Index, a.Name, l.Type(), a.MTU,
			a.RawFlags&^(unix.IFF_RUNNING|unix.IFF_LOWER_UP), a.MasterIndex, a.HardwareAddr))
	}
	lines(w, "link", text)
	return names, err
}

func addrs(w io.Writer, names map[int]string) error {
	all, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	var text []string
	for _, a := range all {
		text = append(text, fmt.Sprintf("%s %v peer %v scope %d flags %#x label %q broadcast %v", names[a.LinkIndex], a.IPNet, a.Peer,
			a.Scope, a.Flags&^(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_OPTIMISTIC), a.Label, a.Broadcast))
	}
	lines(w, "address", text)
	return err
}

func rules(w io.Writer, _ map[int]string) error {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := whole(func() ([]netlink.Rule, error) { return netlink.RuleList(f) })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "== rule %d\n", f) // in the kernel's order, which is their meaning
		for _, r := range all {
			fmt.Fprintln(w, describe(reflect.ValueOf(r)))
		}
	}
	return nil
}

func routes(w io.Writer, names map[int]string) error {
	for _, f := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(f, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		var text []string
		for _, r := range all {
			if r.Flags&unix.RTM_F_CLONED != 0 {
				continue
			}
			r.Flags &^= unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN
			text = append(text, fmt.Sprintf("table %d %s %s", r.Table, names[r.LinkIndex], describe(reflect.ValueOf(r))))
		}
		lines(w, fmt.Sprintf("route %d", f), text)
	}
	return nil
}

// describe writes every field that is not zero, pointers followed: two values
// with the same text are the same.
func describe(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return "-"
		}
		if s, ok := v.Interface().(fmt.Stringer); ok && v.Elem().Kind() == reflect.Struct && v.Elem().NumField() <= 2 {
			return s.String()
		}
		return describe(v.Elem())
	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && !v.Field(i).IsZero() {
				parts = append(parts, f.Name+"="+describe(v.Field(i)))
			}
		}
		return v.Type().Name() + "{" + strings.Join(parts, " ") + "}"
	case reflect.Slice:
		if s, ok := v.Interface().(fmt.Stringer); ok {
			return s.String() // net.IP
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%x", v.Bytes())
		}
		var parts []string
		for i := range v.Len() {
			parts = append(parts, describe(v.Index(i)))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

func ruleset(w io.Writer, _ map[int]string) error {
	fmt.Fprintln(w, "== nftables")
	conn, err := nftables.New()
	if err != nil {
		return nil // a kernel without
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil
	}
	chains, err := conn.ListChains()
	if err != nil {
		return err
	}
	slices.SortFunc(tables, func(a, b *nftables.Table) int {
		if a.Family != b.Family {
			return int(a.Family) - int(b.Family)
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, t := range tables {
		fmt.Fprintf(w, "table %d %s flags %d\n", t.Family, t.Name, t.Flags)
		if err := tableSets(w, conn, t); err != nil {
			return err
		}
		for _, c := range chains {
			if c.Table.Name != t.Name || c.Table.Family != t.Family {
				continue
			}
			if err := chain(w, conn, t, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func tableSets(w io.Writer, conn *nftables.Conn, t *nftables.Table) error {
	sets, err := conn.GetSets(t)
	if err != nil {
		return err
	}
	for _, s := range sets {
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return err
		}
		var text []string
		for _, e := range elements {
			e.Expires, e.Counter = 0, nil
			text = append(text, "    "+describe(reflect.ValueOf(e)))
		}
		slices.Sort(text)
		fmt.Fprintf(w, "  set %s type %s\n%s\n", s.Name, s.KeyType.Name, strings.Join(text, "\n"))
	}
	return nil
}

func chain(w io.Writer, conn *nftables.Conn, t *nftables.Table, c *nftables.Chain) error {
	fmt.Fprintf(w, "  chain %s type %s", c.Name, c.Type)
	if c.Hooknum != nil && c.Priority != nil {
		fmt.Fprintf(w, " hook %d priority %d", *c.Hooknum, *c.Priority)
	}
	if c.Policy != nil {
		fmt.Fprintf(w, " policy %d", *c.Policy)
	}
	fmt.Fprintln(w)
	all, err := conn.GetRules(t, c)
	if err != nil {
		return err
	}
	for _, r := range all {
		var parts []string
		for _, e := range r.Exprs {
			if counter, ok := e.(*expr.Counter); ok {
				counter.Bytes, counter.Packets = 0, 0
			}
			parts = append(parts, describe(reflect.ValueOf(e)))
		}
		fmt.Fprintf(w, "    %s\n", strings.Join(parts, " "))
	}
	return nil
}

// restless are the parameters that the kernel changes by itself, or that only
// report.
var restless = []string{"tcp_fastopen_key", "stable_secret", "route/flush", "tcp_mem", "udp_mem"}

func sysctls(w io.Writer, _ map[int]string) error {
	fmt.Fprintln(w, "== sysctl")
	for _, dir := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/ipv6"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the device went meanwhile, or there is no IPv6
			}
			if err != nil || d.IsDir() {
				return err
			}
			if slices.ContainsFunc(restless, func(r string) bool { return strings.HasSuffix(path, r) }) {
				return nil
			}
			value, err := os.ReadFile(path)
			if err == nil { // what cannot be read cannot have been changed by reading and writing back
				fmt.Fprintf(w, "%s = %s\n", strings.TrimPrefix(path, "/proc/sys/net/"), bytes.TrimSpace(value))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func resolvConf(w io.Writer, _ map[int]string) error {
	const path = "/etc/resolv.conf"
	fmt.Fprintln(w, "== resolv.conf")
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(w, "missing")
		return besides(w)
	}
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	fmt.Fprintf(w, "%v user %d group %d\n", info.Mode(), st.Uid, st.Gid)
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "-> %q\n", target)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(w, "dangling")
		return besides(w)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%q\n", text)
	return besides(w)
}

// besides lists what lies around resolv.conf under its name with more after it.
func besides(w io.Writer) error {
	more, err := filepath.Glob("/etc/resolv.conf?*")
	lines(w, "beside resolv.conf", more)
	return err
}
