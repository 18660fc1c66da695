package config

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseEmulator(t *testing.T) {
	for _, c := range []struct {
		flag, in string
		want     Emulator
		name     string
	}{
		{"--near", "tun", Emulator{Kind: Tun}, "tun"},
		{"--far", "nat", Emulator{Kind: NAT}, "nat"},
		{"--far", "pppd", Emulator{Kind: PPPD, Command: farPPPD}, "pppd"},
		{"--near", "pppd", Emulator{Kind: PPPD, Command: nearPPPD, Terminal: true}, "pppd"},
		{"--far", "slirp", Emulator{Kind: SLiRP, Command: usualSLiRP, Terminal: true}, "slirp"},
		{"--far", "pppd notty debug", Emulator{Kind: PPPD, Command: "pppd notty debug"}, "pppd"},
		{"--far", "/usr/sbin/pppd call gw", Emulator{Kind: PPPD, Command: "/usr/sbin/pppd call gw", Terminal: true}, "pppd"},
		{"--far", "slirp-fullbolt ppp 'dns 9.9.9.9'", Emulator{Kind: SLiRP, Command: "slirp-fullbolt ppp 'dns 9.9.9.9'", Terminal: true}, "slirp"},
		{"--far", "cmd:sudo -n pppd notty", Emulator{Kind: Program, Command: "sudo -n pppd notty"}, "sudo"},
		{"--near", "socks", Emulator{Kind: Socks, Listen: netip.MustParseAddrPort("127.0.0.1:1080")}, "socks"},
		{"--near", "socks:9050", Emulator{Kind: Socks, Listen: netip.MustParseAddrPort("127.0.0.1:9050")}, "socks"},
		{"--near", "socks:[::1]:0", Emulator{Kind: Socks, Listen: netip.MustParseAddrPort("[::1]:0")}, "socks"},
		{"--near", "tty:/opt/ppp/mine -x", Emulator{Kind: Program, Command: "/opt/ppp/mine -x", Terminal: true}, "mine"},
	} {
		got, err := ParseEmulator(c.flag, c.in)
		if err != nil || got != c.want || got.String() != c.name {
			t.Errorf("%s %s: %+v, called %s, %v", c.flag, c.in, got, got, err)
		}
	}
	for _, in := range []string{"", "kernel", "cmd:", "tty:  ", "pppd\nrm", "sshd -D", "NAT", "socks:x"} {
		if got, err := ParseEmulator("--far", in); err == nil {
			t.Errorf("%q: taken for %+v", in, got)
		}
	}
}

// TestPairs has all pairs of emulators: those that can be are taken, and the others
// are refused with the reason and the way out.
func TestPairs(t *testing.T) {
	for _, near := range []string{"tun", "nat", "pppd", "slirp", "cmd:ppp"} {
		for _, far := range []string{"tun", "nat", "pppd", "slirp", "cmd:ppp"} {
			u := Up{Name: "bodkin0", Target: Hop{Scheme: SSH, Host: "gw"}, SSH: []string{"ssh"}}
			u.Near, _ = ParseEmulator("--near", near)
			u.Far, _ = ParseEmulator("--far", far)
			err := u.Check()
			nobody := (near == "nat" || near == "slirp") && (far == "nat" || far == "slirp")
			if nobody != (err != nil) {
				t.Errorf("%s/%s: %v", near, far, err)
			}
			if err != nil && (!strings.Contains(err.Error(), "both are NATs") || err.(*Error).Hint == "") {
				t.Errorf("%s/%s: %v", near, far, err)
			}
		}
	}
}

func TestCheckEmulators(t *testing.T) {
	some := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	good := Up{Name: "bodkin0", Target: Hop{Scheme: SSH, Host: "gw"}, SSH: []string{"ssh"}, Near: Emulator{Kind: NAT}, Far: Emulator{Kind: Tun}, Routes: some, AllowHost: true}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	more := []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}
	friends := good
	friends.Near, friends.Far, friends.Back, friends.ForwardNear = Emulator{}, Emulator{Kind: NAT}, more, Forwarding{true, true}
	if err := friends.Check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*Up){
		"far binary of none":     func(u *Up) { u.Near, u.Far, u.FarBinary = Emulator{}, Emulator{Kind: SLiRP}, "x" },
		"record what is not PPP": func(u *Up) { u.Record = "x" },
		"allow without a nat":    func(u *Up) { u.Near = Emulator{Kind: SLiRP} },
		"exclude here":           func(u *Up) { u.Exclude = some },
		"resolver here":          func(u *Up) { u.DNS.Domains = []string{"corp.example"} },
		"routes of our pppd":     func(u *Up) { u.Near, u.AllowHost = Emulator{Kind: PPPD}, false },
		"routes of the far pppd": func(u *Up) { u.Far = Emulator{Kind: PPPD} },
		"back from nowhere":      func(u *Up) { u.Near, u.Far, u.Back = Emulator{}, Emulator{Kind: NAT}, more },
		"forward what is unknown there": func(u *Up) {
			u.Near, u.Far, u.Back, u.ForwardNear = Emulator{}, Emulator{Kind: NAT}, more, Forwarding{Forward: true}
		},
		"masquerade nobody": func(u *Up) {
			u.Near, u.Far, u.ForwardNear = Emulator{}, Emulator{Kind: NAT}, Forwarding{true, true}
		},
	} {
		u := good
		change(&u)
		if err := u.Check(); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
