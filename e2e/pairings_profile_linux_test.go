package e2e_test

import (
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// profiles is one file for both hosts.
const profiles = `# of all hosts
[office]
target   = "tls://gw:8443"
known-as = "home"
routes   = ["10.44.0.0/16", "fd44::/16"]
exclude  = ["10.44.0.53"]
dns      = "off"

[everything]
target = "me@gw"

[serve]
listen = [":8443"]
`

// TestProfile has one file name the tunnels of the laptop, and say what the gateway serves.
func TestProfile(t *testing.T) {
	t.Parallel()
	w := newSideWorld(t, sides[1])
	w.pair("home")
	const file = "/home/me/.config/bodkin/config.toml"
	for _, m := range []*lab.Machine{w.Laptop, w.Gateway} {
		w.write(m, file, profiles, "me")
		if r := w.on(m, "me", "bodkin", "profile", "check"); r.status != 0 {
			t.Errorf("profile check on %s: exit status %d\n%s", m.Name, r.status, r.out)
		}
	}
	w.serveWith()
	before := w.snapshot()

	w.up("office")
	s := w.status()
	if s.Name != "office" || s.Target != "tls://gw:8443" {
		t.Errorf("status: %+v", s)
	}
	w.fetched(user{machine: w.Laptop}, "by address", "http://"+lab.Corp4.String())
	w.laptop("bodkin", "down", "office")
	w.asBefore(before, "a profile")

	// The command line wins; and a host of that name is the host.
	w.up("office", "10.20.0.0/16", "-x", "10.20.1.0/24")
	if s = w.status(); len(s.Routes) != 1 || s.Routes[0].String() != "10.20.0.0/16" {
		t.Errorf("with a prefix: %+v", s)
	}
	w.down()
	w.up("ssh://office", "10.20.0.0/16")
	if s = w.status(); s.Target != "office" || s.Name != "bodkin0" {
		t.Errorf("ssh://office: %+v", s)
	}
	w.down()

	// What is wrong with it is said with its place, before anything is touched.
	w.write(w.Laptop, file, strings.Replace(profiles, "exclude ", "excldue ", 1), "me")
	r := w.bodkin("up", "office")
	if r.status != 2 {
		t.Errorf("a key that does not exist: exit status %d, want 2", r.status)
	}
	w.says(r.out, file+":6:1: ", "excldue", "did you mean exclude?")
	w.asBefore(before, "a wrong profile")
}
