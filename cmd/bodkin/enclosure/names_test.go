package enclosure

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestNsswitch(t *testing.T) {
	for _, test := range []struct{ distribution, text, want string }{
		{"Debian", "passwd: files systemd\nhosts:          files mdns4_minimal [NOTFOUND=return] dns mymachines\nnetworks: files\n",
			"passwd: files systemd\nhosts: files dns\nnetworks: files\n"},
		{"Fedora", "hosts: files myhostname resolve [!UNAVAIL=return] dns\n", "hosts: files myhostname dns\n"},
		{"Ubuntu with libnss-resolve", "hosts: files resolve [!UNAVAIL=return]", "hosts: files dns\n"},
		{"NIS", " hosts : nis [NOTFOUND=return] files # local\n# hosts: nis\n", "hosts: files dns\n# hosts: nis\n"},
		{"no hosts", "passwd: files\n", "passwd: files\n"},
		{"nothing", "", ""},
	} {
		if got := nsswitch(test.text); got != test.want {
			t.Errorf("%s: %q, want %q", test.distribution, got, test.want)
		}
	}
}

// FuzzNsswitch: host names come from files and DNS alone, all other databases stay as
// they are, and doing it again changes nothing.
func FuzzNsswitch(f *testing.F) {
	f.Add("passwd: files\nhosts: files mdns4_minimal [NOTFOUND=return] resolve myhostname dns # x\n")
	f.Add("hosts:\nhosts: a\n:\n#hosts: b")
	f.Fuzz(func(t *testing.T, text string) {
		got := nsswitch(text)
		if again := nsswitch(got); again != got {
			t.Fatalf("%q, then %q", got, again)
		}
		before, after := slices.Collect(strings.Lines(text)), slices.Collect(strings.Lines(got))
		if len(before) != len(after) {
			t.Fatalf("%d lines, then %d", len(before), len(after))
		}
		for i := range after {
			if after[i] == before[i] {
				continue
			}
			for word := range strings.FieldsSeq(strings.TrimPrefix(after[i], "hosts:")) {
				if !slices.Contains([]string{"files", "myhostname", "dns"}, word) {
					t.Fatalf("%q became %q", before[i], after[i])
				}
			}
		}
	})
}

func TestResolvConf(t *testing.T) {
	got := resolvConf([]netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3%eth0")}, []string{"corp.example", "example"})
	if _, lines, _ := strings.Cut(got, "\n"); lines != "nameserver 10.0.2.3\nnameserver fd00::3\nsearch corp.example example\n" {
		t.Errorf("%q", got)
	}
}

func TestEnvironment(t *testing.T) {
	env := []string{"PATH=/bin", "http_proxy=a", "HTTPS_PROXY=b", "No_Proxy=c", "PROXY=d", "http_proxies=e", "odd"}
	if got, want := Environment(env), []string{"PATH=/bin", "PROXY=d", "http_proxies=e", "odd"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
