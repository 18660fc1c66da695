package usernat

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

func prefixes(s ...string) (p []netip.Prefix) {
	for _, one := range s {
		p = append(p, netip.MustParsePrefix(one))
	}
	return p
}

func TestPolicy(t *testing.T) {
	own := map[netip.Addr]bool{
		netip.MustParseAddr("192.0.2.7"):     true, // the host itself
		netip.MustParseAddr("192.0.2.255"):   true, // its network's broadcast address
		netip.MustParseAddr("2001:db8::7"):   true,
		netip.MustParseAddr("fd00:7::1"):     true,
		netip.MustParseAddr("100.100.100.1"): true,
	}
	const d, h, l = 1, 2, 4 // allowed by default, with Host, with LinkLocal
	for _, c := range []struct {
		addr string
		by   int
	}{
		{"198.51.100.1", d | h | l},
		{"10.1.2.3", d | h | l},
		{"172.16.0.1", d | h | l},
		{"192.168.1.1", d | h | l},
		{"100.64.0.1", d | h | l},
		{"2001:db8::1", d | h | l},
		{"fd12::1", d | h | l},
		{"0.0.0.0", 0},
		{"0.1.2.3", 0},
		{"127.0.0.1", 0},
		{"127.255.255.254", 0},
		{"224.0.0.1", 0},
		{"239.255.255.250", 0},
		{"240.0.0.1", 0},
		{"255.255.255.255", 0},
		{"192.0.2.7", h},
		{"192.0.2.255", h},
		{"2001:db8::7", h},
		{"fd00:7::1", h},
		{"169.254.169.254", l},
		{"169.254.0.1", l},
		{"fe80::1", l},
		{"fec0::1", l},
		{"fd00:ec2::254", l},
		{"::", 0},
		{"::1", 0},
		{"ff02::1", 0},
		{"ff05::2", 0},
		{"::ffff:198.51.100.1", 0}, // mapped: never in a packet
		{"::ffff:127.0.0.1", 0},
		{"::127.0.0.1", 0},
		{"::198.51.100.1", d | h | l},
		{"64:ff9b::198.51.100.1", d | h | l},
		{"64:ff9b::127.0.0.1", 0},
		{"64:ff9b::192.0.2.7", h},
		{"64:ff9b::169.254.169.254", l},
		{"64:ff9b:1::127.0.0.1", 0},
		{"2002:7f00:1::1", 0},
		{"2002:c000:207::1", h},
		{"2002:a9fe:a9fe::1", l},
		{"2002:c633:6401::1", d | h | l},
		{"fe80::1%eth0", 0},
	} {
		a := netip.MustParseAddr(c.addr)
		for bit, p := range map[int]Policy{d: {}, h: {Host: true}, l: {LinkLocal: true}} {
			if got := p.allows(target{addr: a}, own); got != (c.by&bit != 0) {
				t.Errorf("%s under %+v: allowed %v", c.addr, p, got)
			}
		}
	}
}

func TestPolicyPrefixes(t *testing.T) {
	p := Policy{Host: true, Only: Everywhere(prefixes("10.0.0.0/8", "127.0.0.0/8", "64:ff9b::/96")...), Deny: Everywhere(prefixes("10.9.0.0/16")...)}
	for addr, want := range map[string]bool{
		"10.0.0.1":          true,
		"10.9.0.1":          false, // denied inside
		"11.0.0.1":          false, // outside
		"127.0.0.1":         false, // Only opens nothing
		"2001:db8::1":       false,
		"64:ff9b::10.0.0.1": true,
		"64:ff9b::10.9.0.1": false, // denied inside, translated
		"64:ff9b::11.0.0.1": true,  // the IPv6 prefix was named
	} {
		if got := p.allows(target{addr: netip.MustParseAddr(addr)}, nil); got != want {
			t.Errorf("%s: allowed %v", addr, got)
		}
	}
	alias := netip.MustParseAddr("10.0.2.2")
	for _, c := range []struct {
		p    Policy
		want bool
	}{
		{Policy{}, false},
		{Policy{Host: true}, true},
		{Policy{Host: true, Only: Everywhere(prefixes("10.0.2.2/32")...)}, true},
		{Policy{Host: true, Only: Everywhere(prefixes("192.0.2.0/24")...)}, false},
		{Policy{Host: true, Deny: Everywhere(prefixes("10.0.2.0/24")...)}, false},
	} {
		if got := c.p.allowsAlias(target{addr: alias}, netip.MustParseAddr("127.0.0.1")); got != c.want {
			t.Errorf("the alias under %+v: allowed %v", c.p, got)
		}
	}
}

func TestPolicyPorts(t *testing.T) {
	rule := func(prefix string, ports ...uint16) Rule {
		r := Rule{Prefix: netip.MustParsePrefix(prefix)}
		for i := 0; i < len(ports); i += 2 {
			r.Ports = append(r.Ports, PortRange{ports[i], ports[i+1]})
		}
		return r
	}
	own := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.7"): true}
	only := Policy{Only: []Rule{rule("10.0.0.0/8", 22, 22, 8000, 8099), rule("192.0.2.0/24")}}
	deny := Policy{Deny: []Rule{rule("10.0.0.0/8", 25, 25)}}
	open := Policy{Open: []Rule{rule("192.0.2.7/32", 5432, 5432), rule("169.254.1.1/32"), rule("127.0.0.1/32", 80, 80), rule("10.0.2.2/32", 81, 81)}}
	both := Policy{Open: open.Open, Only: open.Open}
	alias := netip.MustParseAddr("10.0.2.2")
	for _, c := range []struct {
		name  string
		p     Policy
		addr  string
		proto uint8
		port  uint16
		want  bool
	}{
		{"a port named", only, "10.1.2.3", protoTCP, 22, true},
		{"of UDP too", only, "10.1.2.3", protoUDP, 22, true},
		{"the first of a range", only, "10.1.2.3", protoTCP, 8000, true},
		{"the last of a range", only, "10.1.2.3", protoTCP, 8099, true},
		{"one after it", only, "10.1.2.3", protoTCP, 8100, false},
		{"a port not named", only, "10.1.2.3", protoTCP, 23, false},
		{"no ping where ports are named", only, "10.1.2.3", protoICMP, 0, false},
		{"a ping where none are", only, "192.0.2.1", protoICMP, 0, true},
		{"a port named, dressed, is not what the prefix names", only, "64:ff9b::10.1.2.3", protoTCP, 22, false},
		{"a port denied", deny, "10.1.2.3", protoTCP, 25, false},
		{"a port denied, dressed", deny, "64:ff9b::10.1.2.3", protoTCP, 25, false},
		{"its neighbour", deny, "10.1.2.3", protoTCP, 26, true},
		{"a ping where a port is denied", deny, "10.1.2.3", protoICMP, 0, true},
		{"the host itself, opened", open, "192.0.2.7", protoTCP, 5432, true},
		{"the host itself, opened, dressed", open, "64:ff9b::192.0.2.7", protoTCP, 5432, true},
		{"the host itself, another port", open, "192.0.2.7", protoTCP, 22, false},
		{"the host itself, a ping", open, "192.0.2.7", protoICMP, 0, false},
		{"link-local, opened", open, "169.254.1.1", protoTCP, 80, true},
		{"metadata, not opened", open, "169.254.169.254", protoTCP, 80, false},
		{"metadata, dressed", open, "64:ff9b::169.254.169.254", protoTCP, 80, false},
		{"loopback is never a destination", open, "127.0.0.1", protoTCP, 80, false},
		{"loopback by its alias", open, "10.0.2.2", protoTCP, 80, true},
		{"the alias by its own address", open, "10.0.2.2", protoTCP, 81, true},
		{"the alias, another port", open, "10.0.2.2", protoTCP, 82, false},
		{"elsewhere, for Open closes nothing", open, "198.51.100.1", protoTCP, 82, true},
		{"elsewhere, for Only does", both, "198.51.100.1", protoTCP, 82, false},
		{"opened and named", both, "192.0.2.7", protoTCP, 5432, true},
		{"the alias opened and named", both, "10.0.2.2", protoTCP, 80, true},
		{"closed, though named", only, "192.0.2.7", protoTCP, 22, false},
	} {
		to := target{netip.MustParseAddr(c.addr), c.proto, c.port}
		got := c.p.allows(to, own)
		if to.addr == alias {
			got = c.p.allowsAlias(to, netip.MustParseAddr("127.0.0.1"))
		}
		if got != c.want {
			t.Errorf("%s: %v allowed %v", c.name, to, got)
		}
	}
	for want, r := range map[string]Rule{
		"10.0.0.0/8:22,8000-8099": only.Only[0],
		"192.0.2.0/24":            only.Only[1],
		"[fd00::/8]:22":           rule("fd00::/8", 22, 22),
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, bad := range []Rule{{}, rule("10.0.0.0/8", 0, 5), rule("10.0.0.0/8", 6, 5)} {
		if _, err := (Config{Allow: Policy{Open: []Rule{bad}}}).complete(); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestOwnAddresses(t *testing.T) {
	calls := 0
	var fail error
	o := ownAddresses{list: func() ([]net.Addr, error) {
		calls++
		_, n, _ := net.ParseCIDR("192.0.2.0/24")
		return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: n.Mask}, &net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)}}, fail
	}}
	now := time.Now()
	for range 3 {
		set := o.get(now)
		for _, a := range []string{"192.0.2.7", "192.0.2.255", "2001:db8::7"} {
			if !set[netip.MustParseAddr(a)] {
				t.Errorf("%s is not known", a)
			}
		}
	}
	if calls != 1 {
		t.Errorf("%d readings, want 1", calls)
	}
	fail = errors.New("no")
	if set := o.get(now.Add(time.Minute)); calls != 2 || len(set) != 3 {
		t.Errorf("after a failed reading: %d calls, %d addresses", calls, len(set))
	}
}

// FuzzPolicy holds the policy against a plainer statement of it: nothing that
// holds a forbidden IPv4 address in any of its dresses is let through.
func FuzzPolicy(f *testing.F) {
	for _, a := range []string{"127.0.0.1", "169.254.169.254", "198.51.100.1", "::1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:10.0.0.1"} {
		f.Add(netip.MustParseAddr(a).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		var p Policy
		if !p.allows(target{addr: a}, nil) {
			return
		}
		if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6() {
			t.Fatalf("%v is allowed", a)
		}
		if v4, in := embedded(a); in {
			for _, dress := range []netip.Addr{v4, dressed("64:ff9b::", 12, v4), dressed("2002::", 2, v4), dressed("::", 12, v4)} {
				if !dress.IsLoopback() && !p.allows(target{addr: dress}, nil) {
					t.Fatalf("%v is allowed, %v is not", a, dress)
				}
			}
		}
	})
}

// dressed puts v4 into the IPv6 address base at octet at.
func dressed(base string, at int, v4 netip.Addr) netip.Addr {
	b := netip.MustParseAddr(base).As16()
	four := v4.As4()
	copy(b[at:], four[:])
	return netip.AddrFrom16(b)
}
