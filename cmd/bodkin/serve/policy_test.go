package serve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/trust"
)

// TestPolicy: what a client may reach is what its line and the server's flags let
// through together.
func TestPolicy(t *testing.T) {
	const loopback, linkLocal = "127.0.0.0/8 ::1/128", "169.254.0.0/16 fe80::/10 fd00:ec2::254/128"
	for _, tt := range []struct {
		flags, line string // "allow=... only=... deny=..."
		want        string
	}{
		{"", "", ""},
		{"allow=host", "", "host"},
		{"allow=link-local allow=192.0.2.1:22", "", "link-local open 192.0.2.1/32:22"},
		{"only=10.0.0.0/8 deny=10.9.0.0/16", "", "only 10.0.0.0/8 deny 10.9.0.0/16"},

		{"", "allow=10.0.0.0/8:22,443", "only 10.0.0.0/8:22,443"},
		{"", "allow=10.0.0.0/8 allow=[2001:db8::/32]:80", "only 10.0.0.0/8 [2001:db8::/32]:80"},
		{"", "deny=10.1.2.3", "deny 10.1.2.3/32"},
		{"", "allow=*", "only 0.0.0.0/0 ::/0"},

		// A line cannot open what the flags do not.
		{"", "allow=host", "only " + loopback},
		{"", "allow=link-local", "only " + linkLocal},
		{"", "allow=127.0.0.1:8080", "only 127.0.0.1/32:8080"},
		{"allow=host", "allow=host", "host only " + loopback},
		{"allow=link-local", "allow=link-local", "link-local only " + linkLocal},
		{"allow=host", "allow=127.0.0.1:8080", "open 127.0.0.1/32:8080 only 127.0.0.1/32:8080"},
		{"allow=host", "allow=192.0.2.1:22", "open 192.0.2.1/32:22 only 192.0.2.1/32:22"},
		{"allow=127.0.0.1:8000-8999", "allow=127.0.0.1:8080,9090", "open 127.0.0.1/32:8080 only 127.0.0.1/32:8080,9090"},
		{"allow=host", "allow=169.254.169.254", "only 169.254.169.254/32"},
		{"allow=link-local", "allow=169.254.169.254:80", "open 169.254.169.254/32:80 only 169.254.169.254/32:80"},

		// Nor does one that says less than all keep what it does not name.
		{"allow=host allow=link-local", "allow=10.0.0.0/8", "only 10.0.0.0/8"},
		{"allow=host", "allow=*", "only 0.0.0.0/0 ::/0"},

		// Both say where to.
		{"only=10.0.0.0/8", "allow=10.1.0.0/16 allow=192.168.0.0/16", "only 10.1.0.0/16"},
		{"only=10.1.0.0/16", "allow=10.0.0.0/8:22", "only 10.1.0.0/16:22"},
		{"only=10.0.0.0/8:22,443", "allow=10.1.0.0/16:400-500", "only 10.1.0.0/16:443"},
		{"only=10.0.0.0/8:22", "allow=10.1.0.0/16:443", "only 0.0.0.0/32"},
		{"only=10.0.0.0/8", "allow=192.168.0.0/16", "only 0.0.0.0/32"},

		// What is denied by either is.
		{"deny=10.9.0.0/16", "allow=10.0.0.0/8 deny=10.8.0.0/16:25", "only 10.0.0.0/8 deny 10.9.0.0/16 10.8.0.0/16:25"},
		{"allow=host", "deny=host", "deny " + loopback},
		{"allow=link-local", "deny=link-local", "deny " + linkLocal},
	} {
		lists := map[string][]string{}
		for word := range strings.FieldsSeq(tt.flags) {
			flag, value, _ := strings.Cut(word, "=")
			lists[flag] = append(lists[flag], value)
		}
		b, err := parseBounds(lists["allow"], lists["only"], lists["deny"])
		if err != nil {
			t.Fatal(err)
		}
		var c trust.Client
		for word := range strings.FieldsSeq(tt.line) {
			option, value, _ := strings.Cut(word, "=")
			d, err := trust.ParseDestination(value)
			if err != nil {
				t.Fatal(err)
			}
			if option == "allow" {
				c.Allow = append(c.Allow, d)
			} else {
				c.Deny = append(c.Deny, d)
			}
		}
		if got := policyText(b.policy(c)); got != tt.want {
			t.Errorf("flags %q and line %q: %q, want %q", tt.flags, tt.line, got, tt.want)
		}
	}
}

// policyText is a policy in words.
func policyText(p usernat.Policy) string {
	var words []string
	if p.Host {
		words = append(words, "host")
	}
	if p.LinkLocal {
		words = append(words, "link-local")
	}
	for _, list := range []struct {
		name  string
		rules []usernat.Rule
	}{{"open", p.Open}, {"only", p.Only}, {"deny", p.Deny}} {
		if len(list.rules) > 0 {
			words = append(words, list.name)
		}
		for _, r := range list.rules {
			words = append(words, fmt.Sprint(r))
		}
	}
	return strings.Join(words, " ")
}
