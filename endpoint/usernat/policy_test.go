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
			if got := p.allows(a, own); got != (c.by&bit != 0) {
				t.Errorf("%s under %+v: allowed %v", c.addr, p, got)
			}
		}
	}
}

func TestPolicyPrefixes(t *testing.T) {
	p := Policy{Host: true, Only: prefixes("10.0.0.0/8", "127.0.0.0/8", "64:ff9b::/96"), Deny: prefixes("10.9.0.0/16")}
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
		if got := p.allows(netip.MustParseAddr(addr), nil); got != want {
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
		{Policy{Host: true, Only: prefixes("10.0.2.2/32")}, true},
		{Policy{Host: true, Only: prefixes("192.0.2.0/24")}, false},
		{Policy{Host: true, Deny: prefixes("10.0.2.0/24")}, false},
	} {
		if got := c.p.allowsAlias(alias); got != c.want {
			t.Errorf("the alias under %+v: allowed %v", c.p, got)
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
		if !p.allows(a, nil) {
			return
		}
		if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6() {
			t.Fatalf("%v is allowed", a)
		}
		if v4, in := embedded(a); in {
			for _, dress := range []netip.Addr{v4, dressed("64:ff9b::", 12, v4), dressed("2002::", 2, v4), dressed("::", 12, v4)} {
				if !dress.IsLoopback() && !p.allows(dress, nil) {
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
