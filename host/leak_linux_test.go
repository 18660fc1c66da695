package host

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ends are where the probes go: a host in the internet, once for each family.
var ends = []struct{ host, other string }{
	{"203.0.113.100", "203.0.113.99"},
	{"2001:db8:f::100", "2001:db8:f::99"},
}

const endOfProbes = "end-of-probes"

// probeAll sends the standard probes to host, and then one beside the tunnel that
// ends what the oracle sees. It returns how the kernel took them.
func probeAll(t *testing.T, host, text string, mark uint32) map[string]error {
	t.Helper()
	took := map[string]error{
		"udp 53": say(joined(host, 53), text, 0),
		"udp 80": say(joined(host, 80), text, 0),
		"tcp 80": connect(joined(host, 80), nil),
	}
	other := "203.0.113.200"
	if err := say(joined(other, 9), endOfProbes, mark); err != nil {
		t.Fatal(err)
	}
	return took
}

func joined(host string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), port).String()
}

func seen(frames [][]byte, host string) (n int) {
	for _, f := range frames {
		if meets(f, netip.MustParseAddr(host)) {
			n++
		}
	}
	return n
}

// TunnelVision (CVE-2024-3661) and LocalNet (CVE-2023-36672): the near network
// gives the machine routes and addresses that cover what the tunnel carries.
func TestForeignRoutes(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, peer := newEth(t)
	gw4, gw6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")
	o := newOracle(t, peer)
	for _, e := range ends { // without a tunnel the oracle sees the probes
		probeAll(t, e.host, "before", firstMark)
		if n := seen(o.until(t, endOfProbes), e.host); n < 3 {
			t.Fatalf("the oracle sees %d of 3 probes to %s", n, e.host)
		}
	}

	d := newTun(t, "bodkin0")
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	foreign := []struct {
		name   string
		inject func() error
	}{
		{"none", func() error { return nil }},
		{"more specific, by a gateway", func() error {
			if err := addRoute(eth, mustPrefix("203.0.113.96/27"), gw4); err != nil {
				return err
			}
			return addRoute(eth, mustPrefix("2001:db8:f::/64"), gw6)
		}},
		{"quarters", func() error {
			for _, p := range prefixes("0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2") {
				if err := addRoute(eth, p, gw4); err != nil {
					return err
				}
			}
			return addRoute(eth, mustPrefix("2000::/3"), gw6)
		}},
		{"the host itself, on the link", func() error {
			r := &netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(mustPrefix("203.0.113.100/32")), Scope: netlink.SCOPE_LINK}
			if err := netlink.RouteAdd(r); err != nil {
				return err
			}
			return addRoute(eth, mustPrefix("2001:db8:f::100/128"), netip.Addr{})
		}},
		{"the host's network as the machine's own", func() error {
			if err := netlink.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(mustPrefix("203.0.113.98/27"))}); err != nil {
				return err
			}
			return netlink.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(mustPrefix("2001:db8:f::98/64")), Flags: unix.IFA_F_NODAD})
		}},
	}
	for i, f := range foreign {
		if err := f.inject(); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		for _, e := range ends {
			text := fmt.Sprintf("probe %d", i)
			for what, err := range probeAll(t, e.host, text, s.Mark()) {
				if err != nil {
					t.Errorf("%s: %s to %s: %v", f.name, what, e.host, err)
				}
			}
			if n := seen(o.until(t, endOfProbes), e.host); n != 0 {
				t.Errorf("%s: %d frames for %s outside the tunnel", f.name, n, e.host)
			}
			in := d.until(t, e.other)
			if n := strings.Count(string(bytes.Join(in, nil)), text); n != 2 {
				t.Errorf("%s: %d of 2 datagrams to %s in the tunnel", f.name, n, e.host)
			}
			if dev := routeTo(t, e.host, 0); dev != "bodkin0" {
				t.Errorf("%s: unmarked to %s goes to %s", f.name, e.host, dev)
			}
			if dev := routeTo(t, e.host, s.Mark()); dev != "eth0" {
				t.Errorf("%s: marked to %s goes to %s", f.name, e.host, dev)
			}
		}
	}
	if all, err := s.Foreign(); err != nil || len(all) < 8 {
		t.Errorf("Foreign: %v, %v", all, err)
	}

	d.Close() // the device is gone, with its routes
	for _, e := range ends {
		for what, err := range probeAll(t, e.host, "after", s.Mark()) {
			if err == nil {
				t.Errorf("without the device: %s to %s is not refused", what, e.host)
			}
		}
		if n := seen(o.until(t, endOfProbes), e.host); n != 0 {
			t.Errorf("without the device: %d frames for %s", n, e.host)
		}
	}
}

// until reads the tunnel's packets up to one that the test sends there itself.
func (d *tun) until(t *testing.T, host string) (all [][]byte) {
	t.Helper()
	if err := say(joined(host, 9), endOfProbes, 0); err != nil {
		t.Fatal(err)
	}
	for {
		b := make([]byte, 65536)
		n, err := d.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b[:n], []byte(endOfProbes)) {
			return all
		}
		all = append(all, b[:n])
	}
}

// A family that the tunnel does not carry is refused at once, not left outside.
func TestOtherFamily(t *testing.T) {
	if !alone(t) {
		return
	}
	_, peer := newEth(t)
	o := newOracle(t, peer)
	newTun(t, "bodkin0")
	dir := journals(t)
	for i, e := range ends {
		w := fullWish()
		refused := ends[1-i]
		w.Addrs, w.Routes, w.DNS = w.Addrs[i:i+1], w.Routes[i:i+1], DNS{}
		s, err := Set(w, dir)
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range probeAll(t, refused.host, "other", s.Mark()) {
			if err == nil {
				t.Errorf("%v: %s to %s is not refused", w.Routes, what, refused.host)
			}
		}
		if n := seen(o.until(t, endOfProbes), refused.host); n != 0 {
			t.Errorf("%v: %d frames for %s outside", w.Routes, n, refused.host)
		}
		if dev := routeTo(t, e.host, 0); dev != "bodkin0" {
			t.Errorf("%v: %s goes to %s", w.Routes, e.host, dev)
		}
		if err := s.Undo(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a split tunnel carries, what it leaves, and what is excluded.
func TestSplit(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, _ := newEth(t)
	d := newTun(t, "bodkin0")
	for _, p := range []string{"10.3.0.0/16", "2001:db8:f::/64"} {
		gw := netip.MustParseAddr("192.0.2.1")
		if strings.Contains(p, ":") {
			gw = netip.MustParseAddr("2001:db8:1::1")
		}
		if err := addRoute(eth, mustPrefix(p), gw); err != nil {
			t.Fatal(err)
		}
	}
	w := Wish{
		Name: "office", Device: "bodkin0", MTU: 65535, Addrs: prefixes("172.31.7.2/30", "fe80::7/64"),
		Routes:  prefixes("10.0.0.0/8", "2001:db8:8000::/33"),
		Exclude: prefixes("10.4.0.0/16", "2001:db8:8000:4::/64"),
		DNS:     DNS{Servers: []netip.Addr{netip.MustParseAddr("198.51.100.53")}},
	}
	s, err := Set(w, journals(t))
	if err != nil {
		t.Fatal(err)
	}
	where := map[string]string{
		"10.1.2.3":           "bodkin0",
		"10.3.0.1":           "bodkin0", // a foreign route inside
		"10.4.0.1":           "eth0",    // excluded
		"172.31.7.1":         "bodkin0", // the tunnel's own
		"198.51.100.53":      "bodkin0", // the name server
		"198.51.100.54":      "eth0",
		"203.0.113.100":      "eth0",
		"192.0.2.77":         "eth0",
		"127.0.0.1":          "lo",
		"172.31.7.2":         "lo",
		"2001:db8:8000::1":   "bodkin0",
		"2001:db8:8000:4::1": "eth0",
		"2001:db8:f::1":      "eth0",
		"::1":                "lo",
	}
	for to, want := range where {
		if dev := routeTo(t, to, 0); dev != want {
			t.Errorf("%s goes to %s, want %s", to, dev, want)
		}
	}
	d.Close()
	for to, want := range where {
		if dev := routeTo(t, to, 0); want == "bodkin0" && dev != "no route to host" {
			t.Errorf("without the device: %s goes to %s", to, dev)
		}
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
}

// The rule for local addresses may have been moved behind ours, as is the custom
// with VRFs: the machine still reaches itself.
func TestLocalMoved(t *testing.T) {
	if !alone(t) {
		return
	}
	newEth(t)
	newTun(t, "bodkin0")
	for _, f := range families {
		r := netlink.NewRule()
		r.Family, r.Table, r.Priority = f, unix.RT_TABLE_LOCAL, 32765
		if err := netlink.RuleAdd(r); err != nil {
			t.Fatal(err)
		}
		r.Priority = 0
		if err := netlink.RuleDel(r); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t)
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"127.0.0.1", "::1", "192.0.2.10", "2001:db8:1::10", "10.0.2.15"} {
		if dev := routeTo(t, own, 0); dev != "lo" {
			t.Errorf("%s goes to %s", own, dev)
		}
	}
	if dev := routeTo(t, "203.0.113.100", 0); dev != "bodkin0" {
		t.Errorf("the tunnel's traffic goes to %s", dev)
	}
	if err := s.Undo(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before)
}

// A machine that forwards for others forwards into the tunnel, or not at all.
func TestForwarded(t *testing.T) {
	if !alone(t) {
		return
	}
	eth, peer := newEth(t)
	for _, k := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := writeSysctl(k, "1"); err != nil {
			t.Fatal(err)
		}
	}
	o := newOracle(t, peer)
	d := newTun(t, "bodkin0")
	s, err := Set(fullWish(), journals(t))
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		for i, from := range []string{"192.0.2.77", "2001:db8:1::77"} {
			o.send(t, udpFrame(eth.Attrs().HardwareAddr, netip.AddrPortFrom(netip.MustParseAddr(from), 5000),
				netip.AddrPortFrom(netip.MustParseAddr(ends[i].host), 80), "forwarded"))
		}
		if err := say(joined("203.0.113.200", 9), endOfProbes, s.Mark()); err != nil {
			t.Fatal(err)
		}
	}
	outside := func() (n int) {
		for _, f := range o.until(t, endOfProbes) {
			if bytes.Contains(f, []byte("forwarded")) && bytes.Equal(f[6:12], eth.Attrs().HardwareAddr) && f[20] != unix.IPPROTO_ICMPV6 && f[23] != unix.IPPROTO_ICMP {
				n++
			}
		}
		return n
	}
	send()
	if n := outside(); n != 0 {
		t.Errorf("%d forwarded packets outside the tunnel", n)
	}
	if in := d.until(t, ends[0].other); strings.Count(string(bytes.Join(in, nil)), "forwarded") != 2 {
		t.Errorf("%d packets in the tunnel, want the 2 forwarded", len(in))
	}
	d.Close()
	send()
	if n := outside(); n != 0 {
		t.Errorf("without the device: %d forwarded packets outside", n)
	}
}
