package host

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// expect waits for events of that kind, one with each of the texts in it, in any
// order, and passes over others.
func expect(t *testing.T, events <-chan Event, kind EventKind, texts ...string) {
	t.Helper()
	late := time.After(5 * time.Second)
	for len(texts) > 0 {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatalf("the channel is closed, want %d %q", kind, texts)
			}
			if e.Kind == Failed {
				t.Error(e.Text)
			}
			if e.Kind == kind {
				texts = slices.DeleteFunc(texts, func(s string) bool { return strings.Contains(e.Text, s) })
			}
		case <-late:
			t.Fatalf("no event %d %q", kind, texts)
		}
	}
}

// becomes is sameAs for what the kernel finishes on its own time: the local route
// of an IPv6 address.
func becomes(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); snapshot(t) != want && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	sameAs(t, want)
}

func TestWatch(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, _ := newEth(t)
	d := newTun(t, "bodkin0")
	before := snapshot(t)
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	up := snapshotUp(t)
	ctx, cancel := context.WithCancel(context.Background())
	events, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	// Everything that can be removed by hand comes back, as it was.
	for _, f := range families {
		must(netlink.RuleDel((&ruleChange{Family: f, Priority: classFull, NotMark: firstMark, Table: firstTable, UID: -1}).rule()))
		expect(t, events, Remade, "rule add priority 232 not fwmark")
	}
	must(netlink.RouteDel((&routeChange{Table: firstTable, Prefix: everything(unix.AF_INET), Type: unix.RTN_UNREACHABLE, Metric: worst}).route()))
	expect(t, events, Remade, "unreachable default")
	must(netlink.LinkSetDown(d.link)) // takes IPv4's routes and IPv6's addresses along
	expect(t, events, Remade, "ip link set", "ip -4 route add default dev bodkin0", "ip -6 route add default dev bodkin0",
		"ip -4 route add 10.0.2.0/24", "ip -6 route add fd00:2::/64", "ip address add fd00:2::15/64")
	becomes(t, up)
	conn, err := nftables.New()
	must(err)
	conn.FlushRuleset()
	must(conn.Flush())
	must(netlink.AddrDel(d.link, &netlink.Addr{IPNet: ipNet(mustPrefix("10.0.2.15/24"))}))
	expect(t, events, Remade, "nft add table inet bodkin-bodkin0", "ip address add 10.0.2.15/24")
	becomes(t, up)

	must(addRoute(eth, mustPrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.1")))
	expect(t, events, ForeignRoute, `198.51.100.0/24 via 192.0.2.1 dev "eth0"`)
	must(os.WriteFile(resolvConf, []byte("nameserver 192.0.2.9\n"), 0o644))
	must(netlink.RouteDel(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(everything(unix.AF_INET)), Gw: []byte{192, 0, 2, 1}}))
	expect(t, events, Gateway, "default route")
	expect(t, events, NamesChanged, resolvConf)
	d.Close()
	expect(t, events, DeviceGone, "bodkin0")
	if dev := routeTo(t, "203.0.113.100", 0); dev != "no route to host" {
		t.Errorf("without the device: %s", dev)
	}

	cancel()
	for e := range events { // until it is closed
		if e.Kind == Failed {
			t.Error(e.Text)
		}
	}
	must(s.Undo())
	if after := snapshot(t); strings.Contains(after, "bodkin") || before == after {
		t.Error("something of ours is left")
	}
}

// Undo ends a Watch whose context goes on.
func TestWatchUndo(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	before := snapshot(t)
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	events, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Kind == Remade {
			t.Errorf("after Undo: %s", e.Text)
		}
	}
	sameAs(t, before)
}
