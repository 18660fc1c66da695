package host

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestChoose(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, _ := newEth(t)
	if err := addRoute(eth, mustPrefix("10.0.0.0/9"), netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(mustPrefix("172.31.255.1/30"))}); err != nil {
		t.Fatal(err)
	}
	candidates := prefixes("10.0.2.15/24", "172.31.255.2/24", "192.0.2.0/28", "10.128.2.15/24", "10.129.2.15/24")
	if got, err := Choose(candidates); err != nil || got != candidates[3] {
		t.Errorf("Choose: %v, %v", got, err)
	}
	var clash *ClashError
	if _, err := Choose(candidates[:3]); !errors.As(err, &clash) || clash.Wanted != candidates[2] || clash.Device != "eth0" {
		t.Errorf("nothing free: %v", err)
	}
	if err := Clash(prefixes("2001:db8:1::99/128")); !errors.As(err, &clash) || clash.Route {
		t.Errorf("inside eth0's network: %v", err)
	}
	if err := Clash(prefixes("10.128.2.15/24", "fd00:2::15/64")); err != nil {
		t.Error(err)
	}
}

// Marks and tables that other programs use are left to them.
func TestFree(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	if mark, err := FreeMark(); err != nil || mark != firstMark {
		t.Fatalf("on an empty machine: %#x, %v", mark, err)
	}
	rule := func(mark, mask uint32, table, priority int) {
		t.Helper()
		r := netlink.NewRule()
		r.Mark, r.Mask, r.Table, r.Priority, r.Family = mark, &mask, table, priority, unix.AF_INET6
		if err := netlink.RuleAdd(r); err != nil {
			t.Fatal(err)
		}
	}
	rule(0x626b, 0xffffffff, 100, 5000) // ours
	rule(0x000c, 0x000f, 100, 5001)     // 0x626c, and many more
	rule(0x80000, 0xff0000, firstTable, 150)
	if mark, err := FreeMark(); err != nil || mark != 0x626d {
		t.Errorf("beside the rules of others: %#x, %v", mark, err)
	}
	r := &netlink.Route{Dst: ipNet(mustPrefix("198.51.100.0/24")), Type: unix.RTN_BLACKHOLE, Table: firstTable + 1}
	if err := netlink.RouteAdd(r); err != nil {
		t.Fatal(err)
	}
	dir := journals(t)
	s, err := Set(fullWish(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Table() != firstTable+2 || s.Mark() != 0x626d {
		t.Errorf("table %d, mark %#x", s.Table(), s.Mark())
	}
	if n := s.Notes(); len(n) != 1 || !strings.Contains(n[0], "priority 150") {
		t.Errorf("notes %q", n)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	w := fullWish()
	w.Table = firstTable + 1
	if _, err := Set(w, dir); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("a table of others: %v", err)
	}
	w.Table, w.Mark = 4711, 0x42
	if s, err = Set(w, dir); err != nil || s.Table() != 4711 || s.Mark() != 0x42 {
		t.Fatalf("as asked: %v", err)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
}
