package host

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func TestNameServers(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name, text string
		want       []netip.Addr
		stub       bool
	}{
		{"empty", "", nil, false},
		{"two, with blanks", "nameserver 192.0.2.53\nnameserver\t2001:db8::53  # far\n", []netip.Addr{addr("192.0.2.53"), addr("2001:db8::53")}, false},
		{"resolved's stub", "# by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .", []netip.Addr{addr("127.0.0.53")}, true},
		{"resolved's other stub", "nameserver 127.0.0.54", []netip.Addr{addr("127.0.0.54")}, true},
		{"glibc wants the word at the line's start", " nameserver 192.0.2.1\n#nameserver 192.0.2.2\nnameservers 192.0.2.3\nnameserver192.0.2.4\n", nil, false},
		{"no address", "nameserver\nnameserver example.org\nnameserver 1.2.3\n", nil, false},
		{"with a zone", "nameserver fe80::1%eth0\r\n", []netip.Addr{addr("fe80::1%eth0")}, false},
	} {
		if got := nameServers([]byte(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := asksStub([]byte(c.text)); got != c.stub {
			t.Errorf("%s: asks the stub: %v", c.name, got)
		}
	}
	many := []netip.Addr{addr("10.0.2.3"), addr("fd00::3"), addr("10.0.2.4"), addr("10.0.2.5")}
	if got := nameServers(resolvConfText("bodkin0", many)); !slices.Equal(got, many[:3]) {
		t.Errorf("what we write says %v", got)
	}
}

func TestSplitConf(t *testing.T) {
	const head = "# Some names are looked up through the tunnel office. When it ends, this file\n# is again what it was.\nnameserver 127.66.0.53\n"
	for _, c := range []struct{ name, old, want string }{
		{"empty", "", head},
		{"search list and options stay", "search lan example\nnameserver 192.0.2.1\noptions edns0 trust-ad", head + "search lan example\noptions edns0 trust-ad\n"},
		{"all servers go, whatever is wrong with them", "nameserver\t192.0.2.1\nnameserver x\nnameserver 192.0.2.2\n", head},
		{"what is none stays", "#nameserver 192.0.2.1\n nameserver 192.0.2.1\n", head + "#nameserver 192.0.2.1\n nameserver 192.0.2.1\n"},
	} {
		if got := string(splitConfText("office", netip.MustParseAddr("127.66.0.53"), []byte(c.old))); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTorn(t *testing.T) {
	a, b := bytes.Repeat([]byte("a"), 10000), bytes.Repeat([]byte("b"), 5000)
	for _, c := range []struct {
		name               string
		now, before, after []byte
		want               bool
	}{
		{"nothing written", a, a, b, true},
		{"one page of the longer", append(bytes.Clone(a[:4096]), b[4096:]...), b, a, true},
		{"all of the shorter, the end not yet cut", append(bytes.Clone(b), a[5000:]...), a, b, true},
		{"all", a, b, a, true},
		{"all of the shorter, and the end cut: done, not torn", b, a, b, false},
		{"somebody else's", []byte("c"), a, b, false},
		{"cut where the kernel does not", append(bytes.Clone(b[:100]), a[100:]...), a, b, false},
		{"emptied", nil, a, b, false},
	} {
		if got := torn(c.now, c.before, c.after); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// What a file says is not changed by what cannot matter, and reading never fails.
func FuzzNameServers(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\noptions edns0\n"))
	f.Add([]byte("nameserver\tfe80::1%eth0\nnameserver 10.0.2.3;x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		servers := nameServers(text)
		again := nameServers(append([]byte("# nameserver 192.0.2.1\n"), text...))
		if !slices.Equal(servers, again) {
			t.Errorf("a comment before it: %v, then %v", servers, again)
		}
		var plain []netip.Addr
		for _, s := range servers {
			if s.Zone() == "" {
				plain = append(plain, s)
			}
		}
		if got := nameServers(resolvConfText("x", plain)); !slices.Equal(got, plain[:min(len(plain), maxNameServers)]) {
			t.Errorf("written and read back: %v, want %v", got, plain)
		}
		forwarder := netip.MustParseAddr("127.66.0.53")
		if got := nameServers(splitConfText("x", forwarder, text)); len(got) != 1 || got[0] != forwarder {
			t.Errorf("with a forwarder: %v", got)
		}
	})
}
