package e2e_test

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// vpn is what a user on the internet asks for who wants the office's network, and no
// more. The server itself is at 10.9.9.9, inside what is routed.
var vpn = []string{"me@office", "10.0.0.0/8", "fd44::/16", "--dns", "corp.example=far"}

// TestVPN: a laptop on the internet brings the office's network in, with its names, and
// all else goes its old way.
func TestVPN(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server string
		conf   lab.ResolvConf
	}{
		{"the server is 10.9.9.9", "me@office", lab.ResolvFile},
		{"the server is fd44:9::9", "me@office6", lab.ResolvBind},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Options{Corp: lab.CorpAroundGateway, ResolvConf: tt.conf})
			before := w.snapshot()
			me := user{machine: w.Laptop}
			w.uses(me, internet)
			if w.resolved(me, corp.name) != "" || w.knock(w.Laptop, "tcp", netip.AddrPortFrom(lab.Corp4, lab.WebPort)) == nil {
				t.Fatal("the office is reached without a tunnel: nothing here would prove anything")
			}
			w.Resolver.Forget()
			if err := w.ResetLeaks(); err != nil {
				t.Fatal(err)
			}

			w.up(append([]string{tt.server}, vpn[1:]...)...)
			w.uses(me, corp)
			w.uses(me, internet)
			if got := w.laptop("curl", "-sS", "-f", "-m", "10", url(lab.Web4, "/address")); !strings.HasPrefix(got, lab.Laptop4.String()+":") {
				t.Errorf("to the internet, who asks is %s, and not the laptop itself", got)
			}
			if got := w.laptop("curl", "-sS", "-f", "-m", "10", url(lab.Corp4, "/address")); !strings.HasPrefix(got, "10.44.0.22:") {
				t.Errorf("to the office's host, who asks is %s, and not the gateway", got)
			}
			w.onlyPublicly(tt.server)

			w.down()
			w.asBefore(before, "up, down")
			w.noProcesses()
			w.uses(me, internet)
			if w.resolved(me, corp.name) != "" {
				t.Error("the office's names are known after down")
			}

			w.up(append([]string{tt.server}, vpn[1:]...)...)
			w.killAll()
			w.laptop("sudo", "bodkin", "clean")
			w.asBefore(before, "kill -9, clean")
			w.uses(me, internet)
		})
	}
}

// onlyPublicly wants what left the laptop beside the tunnel to be public, and so what it
// asked the public resolver for; and the office to have heard of nothing but its own.
func (w *world) onlyPublicly(server string) {
	w.t.Helper()
	carrier := "10.9.9.9:22"
	if server == "me@office6" {
		carrier = "[fd44:9::9]:22"
	}
	for _, line := range w.Leaks() {
		private := strings.Contains(line, " to 10.") || strings.Contains(line, " to [fd44:") || strings.Contains(line, " to fd44:")
		if private && !strings.Contains(line, " to "+carrier+" ") {
			w.t.Errorf("what is the office's leaves in the open: %s", line)
		}
	}
	for _, name := range w.Resolver.Asked() {
		if strings.HasSuffix(name, "corp.example.") {
			w.t.Errorf("the public resolver was asked for %s", name)
		}
	}
	for _, name := range w.CorpResolver.Asked() {
		if strings.HasSuffix(name, ".example.") && !strings.HasSuffix(name, "corp.example.") {
			w.t.Errorf("the office's resolver was asked for %s", name)
		}
	}
	if !slices.Contains(w.Resolver.Asked(), "web.example.") {
		w.t.Errorf("the public resolver was asked for %q: no eye was on it", w.Resolver.Asked())
	}
}

// TestVPNSilent: while the office is silent its names are an error, and never somebody
// else's to answer for; the internet's go on.
func TestVPNSilent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Corp: lab.CorpAroundGateway})
	w.up(vpn...)
	w.Resolver.Forget()
	all, err := w.Gateway.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 1 && p.Args[1] == "far" {
			if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(p.PID, syscall.SIGCONT)
		}
	}
	r := w.on(w.Laptop, "me", "dig", "+time=15", "+tries=1", corp.name)
	if !strings.Contains(r.out, "status: SERVFAIL") || r.took > 12*time.Second {
		t.Errorf("after %v:\n%s", r.took, r.out)
	}
	if got := w.resolved(user{machine: w.Laptop}, internet.name); got != internet.four.String() {
		t.Errorf("%s is %q while the office is silent", internet.name, got)
	}
	for _, name := range w.Resolver.Asked() {
		if strings.HasSuffix(name, "corp.example.") {
			t.Errorf("the public resolver was asked for %s", name)
		}
	}
}

// TestVPNExclude keeps a part of the office out, where the server is.
func TestVPNExclude(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{Corp: lab.CorpAroundGateway})
	w.up("me@office", "10.0.0.0/8", "-x", "10.9.0.0/16", "-x", "10.44.0.53", "--dns", "off")
	w.fetched(user{machine: w.Laptop}, "by address", "http://"+lab.Corp4.String())
	if err := w.ResetLeaks(); err != nil {
		t.Fatal(err)
	}
	w.send("udp", netip.AddrPortFrom(lab.CorpDNS4, 9))
	w.send("udp", netip.MustParseAddrPort("10.9.9.10:9"))
	w.send("udp", netip.MustParseAddrPort("10.10.0.1:9"))
	leaks := strings.Join(w.Leaks(), "\n")
	w.says(leaks, "udp from 192.0.2.10 to 10.44.0.53:9", "udp from 192.0.2.10 to 10.9.9.10:9")
	if strings.Contains(leaks, "10.10.0.1") {
		t.Errorf("what is not excluded leaves in the open:\n%s", leaks)
	}
}
