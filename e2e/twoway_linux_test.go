package e2e_test

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/bodkin-net/bodkin/lab"
)

// The networks of two places, each around one end of the tunnel: the internet's hosts,
// around the laptop, play a branch here.
var (
	branchPrefixes = internet.prefixes
	officePrefixes = corp.prefixes
)

// backs makes --back of prefixes.
func backs(prefixes []string) (args []string) {
	for _, p := range prefixes {
		args = append(args, "--back", p)
	}
	return args
}

// twoWay is what `bodkin up` is given for a kernel interface at each end.
func twoWay(more ...string) []string {
	args := append([]string{"-e", "ssh -i " + rootKey, "--near", "tun", "--far", "tun", "root@gw"}, officePrefixes...)
	return append(append(args, backs(branchPrefixes)...), more...)
}

// newTwoPlaces is a lab of two networks, whose other machines send what is for the other
// one to the tunnel's ends.
func newTwoPlaces(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Corp: lab.CorpAroundGateway})
	w.rootsKey()
	for _, r := range []struct {
		m       *lab.Machine
		to, via string
	}{
		{w.Internet, "10.44.0.0/16", "203.0.113.254"}, {w.Firewall, "10.44.0.0/16", lab.Laptop4.String()},
		{w.Internet, "fd44::/16", "2001:db8:f::fe"}, {w.Firewall, "fd44::/16", lab.Laptop6.String()},
	} {
		_, dst, err := net.ParseCIDR(r.to)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.m.Netlink().RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(r.via)}); err != nil {
			t.Fatalf("%s: adding a route to %s: %v", r.m.Name, r.to, err)
		}
	}
	return w
}

// TestTwoNetworks joins two networks by their ends' kernels, which forward for nobody
// else and stop when the tunnel goes.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	w := newTwoPlaces(t)
	laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
	branch, office := user{machine: w.Internet, resolver: lab.CorpDNS4.String(), root: true}, user{machine: w.Corp, resolver: lab.DNS4.String(), root: true}

	// Without a word no kernel passes anything on.
	w.up(twoWay()...)
	for _, u := range []user{branch, office} {
		for _, n := range []network{corp, internet} {
			if u.machine == w.Corp && n.four == lab.Corp4 || u.machine == w.Internet && n.four == lab.Web4 {
				continue
			}
			if r := w.on(u.machine, "root", "ping", "-c", "1", "-W", "1", n.four.String()); r.status == 0 {
				t.Errorf("%s reaches %v, and nobody was asked to forward", u.machine.Name, n.four)
			}
		}
	}
	w.down()
	w.asBefore(laptop, "two-way")
	w.gone(w.Gateway, gateway)

	w.up(twoWay("--forward", "near", "--forward", "far")...)
	w.uses(branch, corp)
	w.uses(office, internet)
	// Each is known to the other by its own address.
	for _, c := range []struct {
		m    *lab.Machine
		url  string
		from string
	}{
		{w.Internet, url(lab.Corp4, "/address"), "203.0.113.1:"}, {w.Internet, url(lab.Corp6, "/address"), "[2001:db8:f::1]:"},
		{w.Corp, url(lab.Web4, "/address"), "10.44.0.1:"}, {w.Corp, url(lab.Web6, "/address"), "[fd44::1]:"},
	} {
		if r := w.on(c.m, "root", "curl", "-sS", "-f", "-m", "10", c.url); !strings.HasPrefix(r.out, c.from) {
			t.Errorf("%s sees %q, want %s", c.url, r.out, c.from)
		}
	}
	w.down()
	w.asBefore(laptop, "two networks")
	w.gone(w.Gateway, gateway)
}

// TestMasquerade has each end speak for what is behind the other, under its own address,
// so that no host around it need know a way back.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	w := newTwoPlaces(t)
	laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
	w.up(twoWay("--masquerade", "near", "--masquerade", "far")...)
	for _, c := range []struct {
		m    *lab.Machine
		url  string
		from string
	}{
		{w.Laptop, url(lab.Corp4, "/address"), "10.44.0.22:"}, {w.Laptop, url(lab.Corp6, "/address"), "[fd44::22]:"},
		{w.Gateway, url(lab.Web4, "/address"), "192.0.2.10:"}, {w.Gateway, url(lab.Web6, "/address"), "[2001:db8:1::10]:"},
		{w.Corp, url(lab.Web4, "/address"), "192.0.2.10:"}, {w.Internet, url(lab.Corp6, "/address"), "[fd44::22]:"},
	} {
		if r := w.on(c.m, "root", "curl", "-sS", "-f", "-m", "10", c.url); !strings.HasPrefix(r.out, c.from) {
			t.Errorf("from %s, %s sees %q, want %s", c.m.Name, c.url, r.out, c.from)
		}
	}
	w.says(w.laptop("ping", "-c", "1", "-w", "10", lab.Corp6.String()), " 1 received")
	w.down()
	w.asBefore(laptop, "masquerade")
	w.gone(w.Gateway, gateway)
}

// TestRouterForFriends has the laptop let its network use the tunnel, as one user of it:
// the far side needs no root, and knows nothing of that network.
func TestRouterForFriends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Corp: lab.CorpAroundLaptop})
	for _, r := range []struct{ to, via string }{{"203.0.113.0/24", lab.Laptop4.String()}, {"2001:db8:f::/64", lab.Laptop6.String()}} {
		_, dst, err := net.ParseCIDR(r.to)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Firewall.Netlink().RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(r.via)}); err != nil {
			t.Fatal(err)
		}
	}
	before := w.snapshot()
	r := w.bodkin("up", "-d", "me@gw", "--forward", "near")
	if r.status != 2 {
		t.Errorf("forwarding for nobody: exit status %d, want 2", r.status)
	}
	w.says(r.out, "bodkin: hint: --masquerade near --back ")

	w.up("me@gw", "203.0.113.0/24", "2001:db8:f::/64", "--masquerade", "near", "--back", "10.44.0.0/16", "--back", "fd44::/16")
	w.uses(user{machine: w.Corp, root: true, resolver: lab.DNS4.String()}, internet)
	w.uses(user{machine: w.Laptop, resolver: lab.DNS4.String()}, internet)
	came := w.capture(w.Laptop, tunnelDevice)
	if _, err := w.Gateway.Scan(lab.Corp4); err != nil {
		t.Error(err)
	}
	w.onlyEchoes(w.Laptop, came)
	w.down()
	w.asBefore(before, "being a router")
}

// TestTwoWayKilled: what killed halves leave of their forwarding is taken back by the
// next tunnel, and by clean.
func TestTwoWayKilled(t *testing.T) {
	t.Parallel()
	w := newTwoPlaces(t)
	laptop, gateway := w.snapshot(), w.snapshotOf(w.Gateway)
	w.up(twoWay("--once", "--masquerade", "near", "--forward", "far")...) // or the far half waits for us
	w.killAll()
	w.laptop("sudo", "bodkin", "clean")
	w.asBefore(laptop, "kill -9, clean")
	w.gone(w.Gateway, gateway) // its half has seen the carrier end
}
