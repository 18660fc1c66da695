package serve

import (
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/trust"
)

// FuzzPolicy: whatever a client's line says, it opens nothing that the flags have not
// opened, names nothing that they do not, and keeps all that they deny.
func FuzzPolicy(f *testing.F) {
	for _, seed := range [][5]string{
		{"host", "10.0.0.0/8", "10.9.0.0/16", "host 10.1.0.0/16:22", "10.2.0.0/16"},
		{"127.0.0.1:8080", "", "", "127.0.0.0/8 *", ""},
		{"link-local", "*:80", "::/0", "link-local [fe80::/10]:1-65535", "host"},
		{"", "192.0.2.1", "", "0.0.0.0/0:22 192.0.2.0/24", "link-local"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	f.Fuzz(func(t *testing.T, allow, only, deny, lineAllow, lineDeny string) {
		b, err := parseBounds(strings.Fields(allow), strings.Fields(only), strings.Fields(deny))
		if err != nil {
			return
		}
		var c trust.Client
		for into, text := range map[*[]trust.Destination]string{&c.Allow: lineAllow, &c.Deny: lineDeny} {
			for word := range strings.FieldsSeq(text) {
				d, err := trust.ParseDestination(word)
				if err != nil {
					return
				}
				*into = append(*into, d)
			}
		}
		p := b.policy(c)
		if p.Host && !b.host || p.LinkLocal && !b.linkLocal {
			t.Errorf("%+v opens what %+v does not", p, b)
		}
		for _, r := range p.Open {
			inside := within(r.Prefix, linkLocal)
			if !(inside && b.linkLocal || !inside && b.host || covered(r, b.open)) {
				t.Errorf("%v is opened, and not by the flags", r)
			}
		}
		if len(b.only) > 0 {
			if len(p.Only) == 0 {
				t.Error("everything is named")
			}
			for _, r := range p.Only {
				if r.Prefix != nowhere[0].Prefix && !covered(r, b.only) {
					t.Errorf("%v is named, and not by the flags", r)
				}
			}
		}
		if len(c.Allow) > 0 && len(p.Only) == 0 {
			t.Error("the line says where to, and everything is named")
		}
		for i, r := range b.deny {
			if p.Deny[i].String() != r.String() {
				t.Errorf("%v is not denied any more", r)
			}
		}
	})
}

// covered reports whether one of list names all that r does.
func covered(r usernat.Rule, list []usernat.Rule) bool {
	for _, other := range list {
		if other.Prefix.Bits() > r.Prefix.Bits() || !other.Prefix.Contains(r.Prefix.Addr()) {
			continue
		}
		if len(other.Ports) == 0 {
			return true
		}
		all := len(r.Ports) > 0
		for _, p := range r.Ports {
			one := false
			for _, o := range other.Ports {
				one = one || o.First <= p.First && p.Last <= o.Last
			}
			all = all && one
		}
		if all {
			return true
		}
	}
	return false
}
