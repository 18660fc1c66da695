package host

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	p := func(all ...string) (some []netip.Prefix) {
		for _, s := range all {
			some = append(some, netip.MustParsePrefix(s))
		}
		return some
	}
	good := func() Wish {
		return Wish{Name: "bodkin0", Device: "bodkin0", MTU: 1500, Addrs: p("10.0.2.15/24", "fe80::1/64"), Routes: p("0.0.0.0/0", "::/0")}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	many := make([]netip.Prefix, MaxRoutes+1)
	for i := range many {
		many[i] = p("10.0.0.0/8")[0]
	}
	far := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	for _, c := range []struct {
		want  string
		spoil func(*Wish)
	}{
		{`name ""`, func(w *Wish) { w.Name = "" }},
		{`name "../etc/x"`, func(w *Wish) { w.Name = "../etc/x" }},
		{`name "Bodkin"`, func(w *Wish) { w.Name = "Bodkin" }},
		{`name "0"`, func(w *Wish) { w.Name = "0" }},
		{"sixteen", func(w *Wish) { w.Name = "sixteen-letters-" }},
		{`device "all"`, func(w *Wish) { w.Device = "all" }},
		{`device ".."`, func(w *Wish) { w.Device = ".." }},
		{`device "a/b"`, func(w *Wish) { w.Device = "a/b" }},
		{`device "a\x1b[2J"`, func(w *Wish) { w.Device = "a\x1b[2J" }},
		{"MTU 127", func(w *Wish) { w.MTU, w.Addrs = 127, w.Addrs[:1] }},
		{"IPv6 needs an MTU of 1280 octets, not 1279", func(w *Wish) { w.MTU = 1279 }},
		{"MTU 65536", func(w *Wish) { w.MTU = 65536 }},
		{"table 254", func(w *Wish) { w.Table = 254 }},
		{"no address", func(w *Wish) { w.Addrs = nil }},
		{"address 127.0.0.1/8", func(w *Wish) { w.Addrs = p("127.0.0.1/8") }},
		{"address ::ffff:10.0.2.15/120", func(w *Wish) { w.Addrs = p("::ffff:10.0.2.15/120") }},
		{"address invalid", func(w *Wish) { w.Addrs = make([]netip.Prefix, 1) }},
		{"9 addresses: at most 8", func(w *Wish) { w.Addrs = many[:9] }},
		{"1001 routes: at most 1000", func(w *Wish) { w.Routes = many }},
		{"want 10.1.0.0/16", func(w *Wish) { w.Routes = p("10.1.2.3/16") }},
		{"route 127.0.0.0/8", func(w *Wish) { w.Routes = p("127.0.0.0/8") }},
		{"route 224.0.0.0/4", func(w *Wish) { w.Routes = p("224.0.0.0/4") }},
		{"route ::ffff:0.0.0.0/96", func(w *Wish) { w.Routes = p("::ffff:0.0.0.0/96") }},
		{"both routed and excluded", func(w *Wish) { w.Exclude = p("0.0.0.0/0") }},
		{"both the tunnel's own and excluded", func(w *Wish) { w.Exclude = p("10.0.2.0/24") }},
		{"nothing without forwarding", func(w *Wish) { w.Masquerade = true }},
		{"nothing without forwarding", func(w *Wish) { w.Forwarded = p("10.1.0.0/16") }},
		{"both routed and forwarded to", func(w *Wish) { w.Forward, w.Forwarded = true, p("0.0.0.0/0") }},
		{"both the tunnel's own and forwarded to", func(w *Wish) { w.Forward, w.Forwarded = true, p("10.0.2.0/24") }},
		{"65 forwarded prefixes: at most 64", func(w *Wish) { w.Forward, w.Forwarded = true, many[:65] }},
		{"route 10.1.2.3/16", func(w *Wish) { w.Forward, w.Forwarded = true, p("10.1.2.3/16") }},
		{"carrier's address 0.0.0.0:22", func(w *Wish) { w.Carrier = []netip.AddrPort{far("0.0.0.0:22")} }},
		{"carrier's address 192.0.2.1:0", func(w *Wish) { w.Pins = []Pin{{far("192.0.2.1:0"), -1}} }},
		{"user id -2", func(w *Wish) { w.Pins = []Pin{{far("192.0.2.1:22"), -2}} }},
		{"name server 127.0.0.1", func(w *Wish) { w.DNS.Servers = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }},
		{"name server fe80::1%eth0", func(w *Wish) { w.DNS.Servers = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }},
		{"DNS forwarder 192.0.2.1", func(w *Wish) { w.DNS.Forwarder = netip.MustParseAddr("192.0.2.1") }},
		{"a DNS forwarder wants domains", func(w *Wish) { w.DNS.Forwarder = netip.MustParseAddr("127.66.0.53") }},
		{`domain "x;id"`, func(w *Wish) { w.DNS.Domains = []string{"x;id"} }},
		{`domain "corp.example\nnameserver 192.0.2.1"`, func(w *Wish) { w.DNS.Domains = []string{"corp.example\nnameserver 192.0.2.1"} }},
		{`domain "a..b"`, func(w *Wish) { w.DNS.Domains = []string{"a..b"} }},
		{`domain "-a"`, func(w *Wish) { w.DNS.Domains = []string{"-a"} }},
		{"DNS mode 4", func(w *Wish) { w.DNS.Mode = DNSFile + 1 }},
	} {
		w := good()
		c.spoil(&w)
		err := w.Check()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "host: ") {
			t.Errorf("want %s: %v", c.want, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("not fit for a terminal: %q", err)
		}
	}
}

func TestClashTable(t *testing.T) {
	at := func(s string, route bool) holding { return holding{netip.MustParsePrefix(s), "eth0", route} }
	for _, c := range []struct {
		name   string
		tunnel string
		held   holding
		want   bool
	}{
		{"an address inside", "10.0.2.15/24", at("10.0.2.200/32", false), true},
		{"the same address", "10.0.2.15/32", at("10.0.2.15/24", false), true},
		{"a network around, by its address", "10.0.2.15/32", at("10.0.0.1/16", false), true},
		{"a route inside", "10.0.2.15/24", at("10.0.2.128/25", true), true},
		{"a covering route", "10.0.2.15/24", at("10.0.0.0/8", true), true},
		{"beside", "10.0.2.15/24", at("10.0.3.0/24", true), false},
		{"the default route", "10.0.2.15/24", at("0.0.0.0/0", true), false},
		{"half of it", "10.0.2.15/24", at("0.0.0.0/1", true), false},
		{"all of IPv6 that is assigned", "2001:db8::1/64", at("2000::/3", true), false},
		{"IPv6, inside", "fd00:2::15/64", at("fd00:2::1/128", false), true},
		{"another family", "10.0.2.15/24", at("::/0", true), false},
		{"every link has fe80::/64", "fe80::1/64", at("fe80::2/64", false), false},
	} {
		err := clash([]netip.Prefix{netip.MustParsePrefix(c.tunnel)}, []holding{c.held})
		if (err != nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
