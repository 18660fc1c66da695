package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestPlanSetUndo(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	w := fullWish()
	before := snapshot(t)
	plan, err := Plan(w)
	if err != nil {
		t.Fatal(err)
	}
	sameAs(t, before) // planned without a device, and nothing changed
	want := []string{
		"sysctl net.ipv6.conf.bodkin0.accept_ra=0 (now 1)",
		"ip link set dev bodkin0 mtu 1500 addrgenmode none up",
		"ip address add 10.0.2.15/24 dev bodkin0 noprefixroute",
		"ip address add fd00:2::15/64 dev bodkin0 noprefixroute",
		"ip -4 route add unreachable default table 25195 metric 4294967295 proto 98",
		"ip -4 route add default dev bodkin0 table 25195 metric 1 proto 98 rto_min 1000ms initcwnd 46 initrwnd 46",
		"ip -4 route add 10.0.2.0/24 dev bodkin0 table 25195 metric 1 proto 98 rto_min 1000ms initcwnd 46 initrwnd 46",
		"ip -6 route add unreachable default table 25195 metric 4294967295 proto 98",
		"ip -6 route add default dev bodkin0 table 25195 metric 1 proto 98 rto_min 1000ms initcwnd 46 initrwnd 46",
		"ip -6 route add fd00:2::/64 dev bodkin0 table 25195 metric 1 proto 98 rto_min 1000ms initcwnd 46 initrwnd 46",
		"ip -6 route add throw fe80::/10 table 25195 metric 1 proto 98",
		"ip -6 route add throw ff02::/16 table 25195 metric 1 proto 98",
		"nft add table inet bodkin-bodkin0",
		"nft add chain inet bodkin-bodkin0 prerouting { type filter hook prerouting priority raw; }",
		`nft add rule inet bodkin-bodkin0 prerouting iifname != "bodkin0" ip saddr 203.0.113.7 tcp sport 22 meta mark set 0x626b`,
		`nft add rule inet bodkin-bodkin0 prerouting iifname != "bodkin0" iifname != "lo" ip daddr 10.0.2.15 drop`,
		`nft add rule inet bodkin-bodkin0 prerouting iifname != "bodkin0" iifname != "lo" ip6 daddr fd00:2::15 drop`,
		"nft add table arp bodkin-bodkin0",
		"nft add chain arp bodkin-bodkin0 input { type filter hook input priority filter; }",
		`nft add rule arp bodkin-bodkin0 input iifname != "bodkin0" arp daddr ip 10.0.2.15 drop`,
		"ip -6 rule add priority 232 not fwmark 0x626b lookup 25195 protocol 98",
		"ip -4 rule add priority 232 not fwmark 0x626b lookup 25195 protocol 98",
		"# at the end: ss -K src 10.0.2.15 or src fd00:2::15",
		"write /etc/resolv.conf (now a file of 67 octets, kept as /etc/resolv.conf.bodkin-bodkin0): nameserver 10.0.2.3 nameserver fd00:2::3",
	}
	if !slices.Equal(plan, want) {
		t.Errorf("Plan:\n%s\nwant:\n%s", strings.Join(plan, "\n"), strings.Join(want, "\n"))
	}

	newTun(t, "bodkin0")
	before = snapshot(t)
	dir := journals(t)
	s, err := Set(w, dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Notes(); len(n) != 0 {
		t.Errorf("notes: %q", n)
	}
	if s.Mark() != firstMark || s.Table() != firstTable {
		t.Errorf("mark %#x table %d", s.Mark(), s.Table())
	}
	for _, c := range s.journal.changes {
		if there, err := c.present(s.m); !there || err != nil {
			t.Errorf("%s: present %v, %v", firstLine(c), there, err)
		}
	}
	if _, err := Set(w, dir); !errors.Is(err, ErrBusy) {
		t.Errorf("a second Set: %v, want ErrBusy", err)
	}
	if did, err := CleanUp(dir); len(did) != 0 || err != nil {
		t.Errorf("CleanUp beside a living owner: %q, %v", did, err)
	}
	if snapshot(t) == before {
		t.Error("a snapshot sees nothing of what Set did")
	}
	for range 2 {
		if err := s.Undo(); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left in the journal directory: %v", left)
	}
}

// A process killed anywhere in Set or Undo leaves what CleanUp can take back.
func TestKill(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	if err := writeSysctl("net/ipv4/conf/all/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	w := fullWish()
	w.Pins = []Pin{{netip.MustParseAddrPort("203.0.113.8:22"), 1000}, {netip.MustParseAddrPort("[2001:db8:7::8]:22"), -1}}
	w.Exclude = prefixes("198.51.100.0/24")
	before := snapshot(t)
	dir := journals(t)
	var points []string
	for kill := 1; ; kill++ {
		point := attempt{Wish: w, Dir: dir, Undo: true, Kill: kill}.run(t)
		if point == "" {
			break
		}
		points = append(points, point)
		did, err := CleanUp(dir)
		if err != nil {
			t.Fatalf("killed at %q: %v", point, err)
		}
		if strings.HasPrefix(point, "done") && len(did) == 0 {
			t.Errorf("killed at %q: CleanUp says that it did nothing", point)
		}
		sameAs(t, before)
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Fatalf("killed at %q: left in the journal directory: %v", point, left)
		}
	}
	sameAs(t, before)
	t.Logf("%d points", len(points))
	for _, must := range []string{"journal written", "begun ip -4 rule add priority 232", "done ip -4 rule add priority 232",
		"kept /etc/resolv.conf", "made /etc/resolv.conf.bodkin-bodkin0.new", "done write /etc/resolv.conf", "undid write", "undid ip link"} {
		if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, must) }) {
			t.Errorf("never killed at %q", must)
		}
	}
}

// After kill -9 the next Set under the same name takes back what is left, and
// what is then taken back is what was there at the very first.
func TestSetAfterKill(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	before := snapshot(t)
	dir := journals(t)
	if point := (attempt{Wish: fullWish(), Dir: dir}).run(t); point != "set" {
		t.Fatalf("killed at %q", point)
	}
	s, err := Set(fullWish(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// The kernel ends before its owner: only files are taken back, and nothing of a
// network that has only the same numbers.
func TestReboot(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	before := snapshot(t)
	dir := journals(t)
	attempt{Wish: fullWish(), Dir: dir}.run(t)
	path := filepath.Join(dir, "bodkin0.journal")
	edit := func(old, new string) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	boot := bootID()
	edit(boot, strings.Repeat("0", len(boot)))
	keep, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	did, err := CleanUp(dir)
	if err != nil || len(did) != 1 || !strings.Contains(did[0], "/etc/resolv.conf is again") {
		t.Fatalf("CleanUp: %q, %v", did, err)
	}
	if err := os.WriteFile(path, keep, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(strings.Repeat("0", len(boot)), boot)
	if _, err := CleanUp(dir); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// A journal of another network namespace is not ours to undo here.
func TestAnotherNamespace(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	attempt{Wish: fullWish(), Dir: dir}.run(t)
	up := snapshotUp(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread, with its namespace, ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		did, err := CleanUp(dir)
		if err == nil && (len(did) != 1 || !strings.Contains(did[0], "left alone")) {
			err = fmt.Errorf("CleanUp from elsewhere: %q", did)
		}
		if _, set := Set(fullWish(), dir); set == nil || !strings.Contains(set.Error(), "another network namespace") {
			err = errors.Join(err, fmt.Errorf("Set from elsewhere: %v", set))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	sameAs(t, up)
	if did, err := CleanUp(dir); len(did) < 10 || err != nil {
		t.Errorf("CleanUp: %q, %v", did, err)
	}
}

// A full disk refuses before anything is changed.
func TestFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,mode=0700"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	_, err := Set(fullWish(), dir)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("Set: %v, want ENOSPC", err)
	}
	sameAs(t, before)
}

// Whatever change fails, those before it are taken back.
func TestFailure(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	d := newTun(t, "bodkin0")
	dir := journals(t)
	before := snapshot(t)
	w := fullWish()
	w.Table = firstTable
	defer func() { reached = func(string) {} }()
	for _, c := range []struct {
		at   string
		harm func() error // somebody makes the next thing first
	}{
		{"done ip address add fd00:2::15/64", func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(everything(unix.AF_INET)), Table: firstTable, Type: unix.RTN_UNREACHABLE, Priority: worst})
		}},
		{"done ip -6 rule add priority 232", func() error {
			return (&ruleChange{Family: unix.AF_INET, Priority: 232, NotMark: firstMark, Table: firstTable, UID: -1}).do(&machine{nl: &netlink.Handle{}})
		}},
		{"done ip -4 rule add priority 232", func() error { return os.WriteFile(resolvConf, []byte("nameserver 192.0.2.99\n"), 0o644) }},
	} {
		reached = func(point string) {
			if strings.HasPrefix(point, c.at) {
				reached = func(string) {}
				if err := c.harm(); err != nil {
					t.Error(err)
				}
			}
		}
		if s, err := Set(w, dir); err == nil {
			s.Undo()
			t.Errorf("%s: Set noticed nothing", c.at)
		} else {
			t.Log(err)
		}
		// The stranger's is still there; when he takes it back, all is as before.
		netlink.RouteDel(&netlink.Route{Dst: ipNet(everything(unix.AF_INET)), Table: firstTable, Type: unix.RTN_UNREACHABLE, Priority: worst})
		(&ruleChange{Family: unix.AF_INET, Priority: 232, NotMark: firstMark, Table: firstTable, UID: -1}).undo(&machine{nl: &netlink.Handle{}})
		if err := os.WriteFile(resolvConf, []byte(nearResolvConf), 0o640); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before)
	}
	d.Close()
	if _, err := Set(w, dir); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("without the device: %v", err)
	}
}

// What was removed by hand is no obstacle to Undo, and what strangers made stays.
func TestUndoTolerates(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, _ := newEth(t)
	d := newTun(t, "bodkin0")
	dir := journals(t)
	s, err := Set(fullWish(), dir)
	if err != nil {
		t.Fatal(err)
	}
	// A stranger's rule like ours but for one condition, and a route in our table.
	r := (&ruleChange{Family: unix.AF_INET, Priority: 232, NotMark: firstMark, Table: firstTable, UID: -1}).rule()
	if err := netlink.RuleDel(r); err != nil {
		t.Fatal(err)
	}
	r.IifName = "eth0"
	if err := netlink.RuleAdd(r); err != nil {
		t.Fatal(err)
	}
	theirs := &netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(mustPrefix("198.51.100.0/24")), Table: firstTable, Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(theirs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/bodkin0/accept_ra", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	d.Close() // and with it the device, its addresses and routes
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t)
	for _, want := range []string{"IifName=eth0", "table 25195 eth0"} {
		if !strings.Contains(after, want) {
			t.Errorf("a stranger's is gone: %s", want)
		}
	}
	if strings.Contains(after, "bodkin") || strings.Count(after, "Protocol=98") != 1 {
		t.Errorf("something of ours is left:\n%s", after)
	}
}

// TestSmallMTU: a PPP peer may take no more than 552 octets, with which a device
// has no IPv6. The machine is as it was afterwards all the same.
func TestSmallMTU(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "ppp0")
	before := snapshot(t)
	s, err := Set(Wish{
		Name: "ppp0", Device: "ppp0", MTU: 552, Addrs: prefixes("10.0.2.15/32"), Routes: prefixes("10.0.2.2/32", "0.0.0.0/0"),
	}, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	if dev := routeTo(t, "10.0.2.2", 0); dev != "ppp0" {
		t.Errorf("the peer is reached by %s", dev)
	}
	if dev := routeTo(t, "203.0.113.8", 0); dev != "ppp0" {
		t.Errorf("the internet is reached by %s", dev)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if after := snapshot(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestTwoTunnels(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	newTun(t, "bodkin1")
	if err := writeSysctl("net/ipv4/conf/all/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	dir := journals(t)
	split := Wish{
		Name: "bodkin1", Device: "bodkin1", MTU: 9000, Addrs: prefixes("10.9.0.2/32"), Routes: prefixes("172.16.0.0/12"),
		Carrier: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.8:22")},
	}
	const vmark = "net/ipv4/conf/all/src_valid_mark"
	for _, firstDown := range []int{0, 1} {
		first, err := Set(fullWish(), dir)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Set(split, dir)
		if err != nil {
			t.Fatal(err)
		}
		if first.Mark() != second.Mark() || first.Table() == second.Table() {
			t.Errorf("marks %#x %#x, tables %d %d", first.Mark(), second.Mark(), first.Table(), second.Table())
		}
		if dev := routeTo(t, "172.16.1.1", 0); dev != "bodkin1" {
			t.Errorf("the narrower tunnel's traffic goes to %s", dev)
		}
		if dev := routeTo(t, "203.0.113.8", first.Mark()); dev != "eth0" {
			t.Errorf("the second's carrier goes to %s", dev)
		}
		states := []*State{first, second}
		if firstDown == 1 {
			slices.Reverse(states)
		}
		if err := states[0].Undo(); err != nil {
			t.Fatal(err)
		}
		if v, _ := readSysctl(vmark); v != "1" {
			t.Error("the one that is still up lost src_valid_mark")
		}
		if err := states[1].Undo(); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before)
	}

	first, err := Set(fullWish(), dir)
	if err != nil {
		t.Fatal(err)
	}
	up := snapshotUp(t)
	other := fullWish()
	other.Name, other.Device, other.Addrs = "bodkin1", "bodkin1", prefixes("10.9.0.2/32")
	if _, err := Set(other, dir); err == nil || !strings.Contains(err.Error(), "takes everything already") {
		t.Errorf("a second full tunnel: %v", err)
	}
	split.DNS = DNS{Servers: []netip.Addr{netip.MustParseAddr("172.16.0.53")}}
	if _, err := Set(split, dir); err == nil || !strings.Contains(err.Error(), "belongs to the tunnel bodkin0") {
		t.Errorf("a second one for resolv.conf: %v", err)
	}
	split.DNS.Domains = []string{"corp.example"}
	if _, err := Set(split, dir); !errors.Is(err, ErrSplitDNS) {
		t.Errorf("split DNS with a file: %v", err)
	}
	split.DNS, split.Addrs = DNS{}, prefixes("10.0.2.200/28")
	var clash *ClashError
	if _, err := Set(split, dir); !errors.As(err, &clash) || clash.Device != "bodkin0" {
		t.Errorf("the first one's addresses: %v", err)
	}
	sameAs(t, up)
	if err := first.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// routeTo asks the kernel where it would send a packet: the device's name, or
// the refusal.
func routeTo(t *testing.T, to string, mark uint32) string {
	t.Helper()
	routes, err := netlink.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{Mark: mark})
	if err != nil {
		return err.Error()
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		t.Fatal(err)
	}
	if routes[0].Type != unix.RTN_UNICAST && routes[0].Type != unix.RTN_LOCAL {
		return "refused"
	}
	return link.Attrs().Name
}

// A directory or journal that others may write is not believed.
func TestJournalOfOthers(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	before := snapshot(t)
	dir := journals(t)
	if err := os.Chmod(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := Set(fullWish(), dir); err == nil {
		t.Error("a directory that the group may write")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bodkin0.journal")
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Set(fullWish(), dir); err == nil {
		t.Error("a link in the journal's place")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CleanUp(dir); err == nil {
		t.Error("a FIFO in the journal's place")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("no journal at all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CleanUp(dir); err == nil || !exists(path) {
		t.Errorf("a journal that is none: %v", err)
	}
	sameAs(t, before)
}
