package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A router is a machine with a tunnel, a network of its own behind it, and one
// more network that nobody spoke of.
type router struct {
	at       *place // nil: the test's own machine
	tun      *tun
	lan, wan *place
}

// newRouter makes the machine, and those behind it, with networks 10.N.0.0/24 and
// fd0N::/64 on one side, 198.18.N.0/24 on the other.
func newRouter(t *testing.T, at *place, n int) *router {
	t.Helper()
	r := &router{at: at, lan: newPlace(t), wan: newPlace(t)}
	net := func(s string) []netip.Prefix {
		return prefixes(fmt.Sprintf("10.%d.0.%s/24", n, s), fmt.Sprintf("fd0%d::%s/64", n, s))
	}
	cable(t, at, "lan0", net("1"), r.lan, "eth0", net("2"))
	cable(t, at, "wan0", prefixes(fmt.Sprintf("198.18.%d.1/24", n), fmt.Sprintf("2001:db8:%d::1/64", n)),
		r.wan, "eth0", prefixes(fmt.Sprintf("198.18.%d.2/24", n), fmt.Sprintf("2001:db8:%d::2/64", n)))
	for _, p := range []struct {
		*place
		v4, v6 string
	}{{r.lan, fmt.Sprintf("10.%d.0.1", n), fmt.Sprintf("fd0%d::1", n)}, {r.wan, fmt.Sprintf("198.18.%d.1", n), fmt.Sprintf("2001:db8:%d::1", n)}} {
		p.route("0.0.0.0/0", p.v4)
		p.route("::/0", p.v6)
	}
	r.on(t, func() error { r.tun = newTun(t, "bodkin0"); return nil })
	return r
}

func (r *router) on(t *testing.T, f func() error) {
	t.Helper()
	if r.at != nil {
		r.at.do(f)
	} else if err := f(); err != nil {
		t.Fatal(err)
	}
}

// siteWish is what joins the site n with the other, m.
func siteWish(n, m int) Wish {
	return Wish{
		Name: "bodkin0", Device: "bodkin0", MTU: 1400, DNS: DNS{Mode: DNSOff},
		Addrs:     prefixes(fmt.Sprintf("10.255.0.%d/30", n), fmt.Sprintf("fd0f::%d/64", n)),
		Routes:    prefixes(fmt.Sprintf("10.%d.0.0/24", m), fmt.Sprintf("fd0%d::/64", m)),
		Forward:   true,
		Forwarded: prefixes(fmt.Sprintf("10.%d.0.0/24", n), fmt.Sprintf("fd0%d::/64", n)),
	}
}

// Two networks behind two machines reach each other, and nobody else reaches
// anything.
func TestSiteToSite(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	one, two := newRouter(t, nil, 1), newRouter(t, newPlace(t), 2)
	joinTuns(t, one.tun, two.tun)
	before := snapshot(t)
	dir1, dir2 := journals(t), journals(t)
	s1, err := Set(siteWish(1, 2), dir1)
	if err != nil {
		t.Fatal(err)
	}
	var s2 *State
	two.at.do(func() (err error) { s2, err = Set(siteWish(2, 1), dir2); return err })
	if n := append(s1.Notes(), s2.Notes()...); len(n) != 0 {
		t.Errorf("notes: %q", n)
	}
	hosts := map[*place][]string{one.lan: {"10.2.0.2", "fd02::2"}, two.lan: {"10.1.0.2", "fd01::2"}}
	for from, all := range hosts {
		for _, to := range all {
			if !from.ping(to, patient) {
				t.Errorf("%s does not answer", to)
			}
		}
	}

	// The SYN of either side tells the tunnel's MTU, though no host knows it.
	for from, all := range hosts {
		for i, to := range all {
			far := map[*place]*place{one.lan: two.lan, two.lan: one.lan}[from]
			far.echo(joined(to, 80))
			var o *oracle
			far.do(func() error { o = newOracle(t, linkNamed(t, "eth0")); return nil })
			if _, err := from.call(joined(to, 80), 0, patient); err != nil {
				t.Error(err)
				continue
			}
			if err := from.run("ping", "-n", "-c", "1", "-p", "656e64", to); err != nil {
				t.Error(err)
			}
			want := 1400 - []int{20, 40}[i] - 20
			if mss := synMSS(o.until(t, "endendend")); mss != want {
				t.Errorf("the SYN to %s has an MSS of %d, want %d", to, mss, want)
			}
		}
	}

	// Elsewhere is not opened: not into the tunnel, not behind the machine, not from
	// the tunnel, and not by a source that is none of the other side's.
	closed := []struct {
		name string
		from *place
		to   string
	}{
		{"from elsewhere into the tunnel", one.wan, "10.2.0.2"},
		{"from elsewhere into the tunnel, IPv6", one.wan, "fd02::2"},
		{"from elsewhere to the network", one.wan, "10.1.0.2"},
		{"from elsewhere to the network, IPv6", one.wan, "fd01::2"},
		{"from the network to elsewhere", one.lan, "198.18.1.2"},
		{"from the tunnel to elsewhere", two.lan, "198.18.1.2"},
		{"from the tunnel to elsewhere, IPv6", two.lan, "2001:db8:1::2"},
	}
	two.at.do(func() error { // the other side tries to
		return addRoute(linkNamed(t, "bodkin0"), mustPrefix("198.18.1.0/24"), netip.Addr{})
	})
	reached := listenAll(t, one.lan, one.wan, two.lan)
	for _, c := range closed {
		if c.from.ping(c.to, soon*4) {
			t.Errorf("%s: %s answers", c.name, c.to)
		}
	}
	if seen := reached("198.18.1.", "2001:db8:1::", "198.18.2."); seen != 0 {
		t.Errorf("%d packets came where they should not", seen)
	}
	// With the source of a machine behind us, forged by the tunnel's other end.
	two.at.do(func() error {
		_, err := one.tun.Write(udpFrame(make([]byte, 6), netip.MustParseAddrPort("198.18.1.2:5"), netip.MustParseAddrPort("10.1.0.2:9"), "forged")[14:])
		return err
	})
	if seen := reached("forged"); seen != 0 {
		t.Errorf("%d packets with a forged source came through", seen)
	}

	if err := s1.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
	if two.lan.ping("10.1.0.2", soon*4) {
		t.Error("the network is still reached")
	}
	two.at.do(s2.Undo)
}

// listenAll sees what reaches the machines. The function that it returns counts
// the packets since, with one of the texts or sources that begin so.
func listenAll(t *testing.T, all ...*place) func(what ...string) int {
	t.Helper()
	var oracles []*oracle
	for _, p := range all {
		p.do(func() error { oracles = append(oracles, newOracle(t, linkNamed(t, "eth0"))); return nil })
	}
	return func(what ...string) (n int) {
		t.Helper()
		for i, o := range oracles {
			gateway := "10.1.0.1"
			all[i].do(func() error {
				routes, err := netlink.RouteList(nil, unix.AF_INET)
				for _, r := range routes {
					if r.Gw != nil {
						gateway = r.Gw.String()
					}
				}
				return err
			})
			// A ping to the gateway comes back after all that was before it.
			if err := all[i].run("ping", "-n", "-c", "1", "-p", "656e64", gateway); err != nil {
				t.Fatal(err)
			}
			for _, f := range o.until(t, "endendend") {
				from := source4or6(f)
				own := strings.HasSuffix(from, ".1") || strings.HasSuffix(from, "::1") // the router itself
				for _, w := range what {
					if strings.HasPrefix(from, w) && !own || strings.Contains(string(f), w) {
						n++
					}
				}
			}
		}
		return n
	}
}

func source4or6(frame []byte) string {
	switch {
	case len(frame) >= 34 && frame[12] == 8 && frame[13] == 0:
		return netip.AddrFrom4([4]byte(frame[26:30])).String()
	case len(frame) >= 54 && frame[12] == 0x86 && frame[13] == 0xdd:
		return netip.AddrFrom16([16]byte(frame[22:38])).String()
	}
	return ""
}

// synMSS returns the MSS of the first SYN among the frames.
func synMSS(frames [][]byte) int {
	for _, f := range frames {
		var tcp []byte
		switch {
		case len(f) > 34 && f[12] == 8 && f[13] == 0 && f[23] == unix.IPPROTO_TCP:
			tcp = f[34:]
		case len(f) > 54 && f[12] == 0x86 && f[20] == unix.IPPROTO_TCP:
			tcp = f[54:]
		}
		if len(tcp) >= 24 && tcp[13]&0x12 == 2 && tcp[20] == 2 && tcp[21] == 4 {
			return int(tcp[22])<<8 | int(tcp[23])
		}
	}
	return 0
}

// What comes out of the tunnel goes to the internet under this machine's address.
func TestMasquerade(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	r := newRouter(t, nil, 1)
	client := newPlace(t)
	var theirs *tun
	client.do(func() error {
		theirs = newTun(t, "bodkin0")
		link := linkNamed(t, "bodkin0")
		for _, a := range prefixes("10.255.0.2/30", "fd0f::2/64") {
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD}); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		for _, f := range families {
			if err := addRoute(link, everything(f), netip.Addr{}); err != nil {
				return err
			}
		}
		return nil
	})
	joinTuns(t, r.tun, theirs)
	// The internet knows no way back to the tunnel's addresses.
	r.wan.do(func() error {
		for _, f := range families {
			if err := netlink.RouteDel(&netlink.Route{Dst: ipNet(everything(f)), Family: f}); err != nil {
				return err
			}
		}
		return nil
	})
	before := snapshot(t)
	for _, filter := range []string{"0", "1"} {
		if err := writeSysctl("net/ipv4/conf/all/rp_filter", filter); err != nil {
			t.Fatal(err)
		}
		t.Run("rp_filter "+filter, func(t *testing.T) { masqueraded(t, r, client) })
	}
	if err := writeSysctl("net/ipv4/conf/all/rp_filter", "0"); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

func masqueraded(t *testing.T, r *router, client *place) {
	for _, p := range []*place{r.lan, r.wan, client} {
		p.t = t
	}
	wish := Wish{
		Name: "bodkin0", Device: "bodkin0", MTU: 1500, Addrs: prefixes("10.255.0.1/30", "fd0f::1/64"), DNS: DNS{Mode: DNSOff},
		Forward: true, Masquerade: true,
	}
	s, err := Set(wish, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	calledBy := func(from, at *place, to, as string) {
		t.Helper()
		if !from.ping(to, patient) {
			t.Errorf("%s does not answer", to)
		}
		at.echo(joined(to, 80))
		for _, port := range []int{0, 443} {
			who, err := from.call(joined(to, 80), port, patient)
			if err != nil {
				t.Error(err)
				continue
			}
			if a := netip.MustParseAddrPort(who); a.Addr().String() != as || a.Port() < firstMasked || a.Port() > lastMasked {
				t.Errorf("%s was called by %s, want %s and a port from %d to %d", to, who, as, firstMasked, lastMasked)
			}
		}
	}
	calledBy(client, r.wan, "198.18.1.2", "198.18.1.1")
	calledBy(client, r.wan, "2001:db8:1::2", "2001:db8:1::1")
	calledBy(client, r.lan, "10.1.0.2", "10.1.0.1")
	// Nobody opens anything into the tunnel, and nobody uses this router who is no
	// part of it.
	for _, c := range []struct {
		from *place
		to   string
	}{{r.lan, "10.255.0.2"}, {r.wan, "10.1.0.2"}, {r.lan, "198.18.1.2"}} {
		if c.from.ping(c.to, soon*4) {
			t.Errorf("%s answers", c.to)
		}
	}
	if client.ping("169.254.169.254", soon) {
		t.Error("the metadata service answers")
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}

	// A router for friends: a network that was named goes into the tunnel as this
	// machine, although the tunnel takes everything.
	wish.Routes, wish.Forwarded = prefixes("0.0.0.0/0", "::/0"), prefixes("10.1.0.0/24", "fd01::/64")
	if s, err = Set(wish, journals(t)); err != nil {
		t.Fatal(err)
	}
	calledBy(r.lan, client, "10.255.0.2", "10.255.0.1")
	calledBy(r.lan, client, "fd0f::2", "fd0f::1")
	if r.wan.ping("10.255.0.2", soon*4) || r.lan.ping("198.18.1.2", soon*4) {
		t.Error("the router is open to others")
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
}

// The plan's words, given to nft(8), make the filter that Set makes; each
// variant of it can be taken back wherever its process was killed.
func TestForwardWords(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	both := siteWish(1, 2)
	out := siteWish(1, 2)
	out.Forwarded, out.Masquerade = nil, true
	friends := siteWish(1, 2)
	friends.Masquerade = true
	one := siteWish(1, 2)
	one.Forwarded = prefixes("10.1.0.5/32", "10.2.0.64/26", "0.0.0.0/0")
	for _, w := range []Wish{both, out, friends, one} {
		plan, err := Plan(w)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Set(w, journals(t))
		if err != nil {
			t.Fatal(err)
		}
		table := forwardTable(w.Name)
		ours, err := exec.Command("nft", "--debug=netlink", "list", "table", "inet", table).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, ours)
		}
		var typed strings.Builder
		for _, line := range plan {
			if words, ok := strings.CutPrefix(line, "nft "); ok && strings.Contains(line, table) {
				fmt.Fprintln(&typed, words)
			}
		}
		other := newPlace(t)
		var theirs []byte
		other.do(func() (err error) {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(typed.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			theirs, err = exec.Command("nft", "--debug=netlink", "list", "table", "inet", table).CombinedOutput()
			return err
		})
		handles := regexp.MustCompile(`(?m)^(inet \S+ \S+)[ 0-9]*$`) // the rules' numbers
		if a, b := handles.ReplaceAllString(string(ours), "$1"), handles.ReplaceAllString(string(theirs), "$1"); a != b {
			t.Errorf("ours:\n%s\nof the plan's words:\n%s", a, b)
		}
		if err := s.Undo(); err != nil {
			t.Fatal(err)
		}
	}
}

// A router killed anywhere in Set or Undo leaves what CleanUp can take back, on a
// machine with settings of its own.
func TestForwardKill(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	// The kernel's switch would overwrite these.
	for name, value := range map[string]string{
		"net/ipv4/conf/eth0/forwarding": "1", "net/ipv6/conf/peer/forwarding": "1",
		"net/ipv4/conf/all/accept_redirects": "0", "net/ipv6/conf/default/forwarding": "1",
	} {
		if err := writeSysctl(name, value); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t)
	dir := journals(t)
	w := siteWish(1, 2)
	w.Masquerade = true
	var points []string
	for kill := 1; ; kill++ {
		point := attempt{Wish: w, Dir: dir, Undo: true, Kill: kill, Only: "ne "}.run(t)
		if point == "" {
			break
		}
		points = append(points, point)
		if _, err := CleanUp(dir); err != nil {
			t.Fatalf("killed at %q: %v", point, err)
		}
		sameAs(t, before)
	}
	sameAs(t, before)
	for _, must := range []string{"done nft add table inet bodkin-bodkin0.forward", "done sysctl net.ipv4.ip_forward=1",
		"done sysctl net.ipv6.conf.eth0.accept_ra=2", "done sysctl net.ipv6.conf.all.forwarding=1"} {
		if !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, must) }) {
			t.Errorf("never killed at %q", must)
		}
	}

	// What somebody else set meanwhile stays.
	s, err := Set(w, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeSysctl("net/ipv4/conf/eth0/forwarding", "0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if v, _ := readSysctl("net/ipv4/conf/eth0/forwarding"); v != "0" {
		t.Error("a stranger's setting was taken back")
	}
}

// A machine that is a router already stays one, open as it was.
func TestForwardRouter(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	r := newRouter(t, nil, 1)
	for _, k := range []string{forwardIPv4, forwardIPv6} {
		if err := writeSysctl(k, "1"); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t)
	s, err := Set(siteWish(1, 2), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"198.18.1.2", "2001:db8:1::2"} {
		if !r.lan.ping(to, patient) {
			t.Errorf("%s is no longer reached", to)
		}
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// Two tunnels on one router: neither's filter drops what is the other's, and the
// last one turns the switch off.
func TestForwardTwo(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	one, two := newRouter(t, nil, 1), newRouter(t, newPlace(t), 2)
	joinTuns(t, one.tun, two.tun)
	newTun(t, "bodkin1")
	before := snapshot(t)
	dir := journals(t)
	other := siteWish(1, 2)
	other.Name, other.Device, other.Addrs, other.Routes = "bodkin1", "bodkin1", prefixes("10.254.0.1/30", "fd0e::1/64"), prefixes("10.3.0.0/24")
	two.at.do(func() error {
		_, err := Set(siteWish(2, 1), journals(t))
		return err
	})
	for _, order := range [][]Wish{{siteWish(1, 2), other}, {other, siteWish(1, 2)}} {
		first, err := Set(order[0], dir)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Set(order[1], dir)
		if err != nil {
			t.Fatal(err)
		}
		if !one.lan.ping("10.2.0.2", patient) || !two.lan.ping("fd01::2", patient) {
			t.Error("one tunnel's filter drops what is the other's")
		}
		if err := first.Undo(); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{forwardIPv4, forwardIPv6} {
			if v, _ := readSysctl(k); v != "1" {
				t.Errorf("the one that is still up lost %s", k)
			}
		}
		if one.wan.ping("10.1.0.2", soon*4) {
			t.Error("the one that is still up leaves the router open")
		}
		if err := second.Undo(); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before)
	}
}

// What somebody removes of the filter is made again.
func TestForwardWatch(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	w := siteWish(1, 2)
	w.Masquerade = true
	s, err := Set(w, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	up := snapshot(t)
	events, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	conn.FlushRuleset()
	link := linkNamed(t, "bodkin0")
	if err := errors.Join(conn.Flush(), netlink.LinkSetGroup(link, 0)); err != nil {
		t.Fatal(err)
	}
	expect(t, events, Remade, "ip link set dev bodkin0", "nft add table inet bodkin-bodkin0.forward")
	becomes(t, up)
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
}

// The machine keeps the IPv6 router that it learned of, though routers do not
// heed advertisements.
func TestForwardAdvertised(t *testing.T) {
	if !alone(t) {
		return
	}
	if err := furnishNetwork(); err != nil {
		t.Fatal(err)
	}
	r := newRouter(t, nil, 1)
	wan := linkNamed(t, "wan0")
	r.wan.do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ra := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0} // RFC 4861, section 4.2
		f := ipFrame([]byte{0x33, 0x33, 0, 0, 0, 1}, netip.MustParseAddr("fe80::666"), netip.MustParseAddr("ff02::1"), unix.IPPROTO_ICMPV6, ra, 2)
		f[14+7] = 255 // section 6.1.2
		return unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: linkNamed(t, "eth0").Attrs().Index})
	})
	learned := func() bool {
		routes, err := netlink.RouteList(wan, unix.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == "fe80::666" })
	}
	if !learned() { // the frame is taken in before it is sent, on a veth
		t.Fatal("the test's advertisement is not a good one")
	}
	s, err := Set(siteWish(1, 2), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	if !learned() {
		t.Error("the machine lost its router when it became one")
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	if v, _ := readSysctl("net/ipv6/conf/wan0/accept_ra"); !learned() || v != "1" {
		t.Errorf("afterwards: router known %v, accept_ra=%s", learned(), v)
	}
}

// A filter of somebody else's that drops what is forwarded is named.
func TestForwardFirewall(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	drops, accepts := nftables.ChainPolicyDrop, nftables.ChainPolicyAccept
	for _, c := range []struct {
		table  string
		policy *nftables.ChainPolicy
		last   []expr.Any
	}{{"filter", &drops, nil}, {"firewalld", &accepts, []expr.Any{&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: 3}}}, {"harmless", &accepts, append(transport(6), drop()...)}} {
		table := conn.AddTable(&nftables.Table{Name: c.table, Family: nftables.TableFamilyINet})
		chain := conn.AddChain(&nftables.Chain{
			Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Policy: c.policy,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		if c.last != nil {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: c.last})
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t)
	s, err := Set(siteWish(1, 2), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Join(s.Notes(), "\n"); !strings.Contains(n, `table "filter" drops`) || !strings.Contains(n, `table "firewalld" drops`) || strings.Contains(n, "harmless") {
		t.Errorf("notes: %s", n)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
	hasNFT = func() bool { return false }
	if _, err := Set(siteWish(1, 2), journals(t)); err == nil || !strings.Contains(err.Error(), "needs nftables") {
		t.Errorf("without nftables: %v", err)
	}
}
