package e2e_test

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestPPPWithOurSlirp has ours at both ends, as the originals were used: `bodkin ppp`
// here, and through a login, on its terminal, bodkin under the name of slirp.
func TestPPPWithOurSlirp(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []string
		slirp   string
	}{
		{"as it comes", nil, `ppp "redir 5999 80" "redir udp 5999 5353"`},
		{"a small MRU", []string{"mru", "552"}, `ppp "redir 5999 80" "redir udp 5999 5353" "mru 552" "wait 0"`},
		{"escapes, and slirp calls", []string{"silent", "asyncmap", "ffffffff"}, `ppp "redir 5999 80" "redir udp 5999 5353" initiate-options "asyncmap a0000" "escape ff"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newScriptWorld(t)
			if err := w.Gateway.InstallAs(program, "slirp"); err != nil {
				t.Fatal(err)
			}
			before := w.snapshot()
			p := w.startPPP(w.Laptop, "me", append(c.options, "debug", "noauth", "defaultroute", "usepeerdns",
				"pty", "ssh -tt gw 'exec slirp "+c.slirp+"'")...)
			p.up(1)
			w.fetch()
			w.laptop("ping", "-c", "1", "-s", "1200", "-W", "5", lab.Web4.String())
			w.says(p.text(), "local  IP address 10.0.2.15", "remote IP address 10.0.2.2", "primary   DNS address 10.0.2.3")

			// The way in that was asked for, and no other.
			web := w.Laptop.Command(t.Context(), "busybox", "httpd", "-f", "-p", "10.0.2.15:80", "-h", "/etc/ppp")
			if err := web.Start(); err != nil {
				t.Fatal(err)
			}
			defer web.Wait()
			defer web.Process.Kill()
			w.eventually("a server listens on the laptop", func() bool {
				return strings.Contains(w.on(w.Laptop, "root", "ss", "-ltn").out, "10.0.2.15:80 ")
			})
			if r := w.on(w.Gateway, "me", "curl", "-sS", "-f", "-m", "10", "http://127.0.0.1:5999/ip-up"); r.status != 0 || !strings.Contains(r.out, "/tmp/scripts") {
				t.Errorf("by the redirection: exit status %d\n%s", r.status, r.out)
			}
			if r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "10", "http://"+netip.AddrPortFrom(lab.Gateway4, 5999).String()); r.status == 0 {
				t.Error("the redirection listens to the world")
			}
			listens := w.on(w.Gateway, "root", "ss", "-ltunpH").out
			for line := range strings.Lines(listens) {
				if strings.Contains(line, `"slirp"`) && !strings.Contains(line, "127.0.0.1:5999 ") {
					t.Errorf("slirp listens besides: %s", line)
				}
			}
			if n := strings.Count(listens, `"slirp"`); n != 2 {
				t.Errorf("%d redirections listen, want 2:\n%s", n, listens)
			}
			// The gateway itself is closed to the laptop: its alias, and its addresses.
			if r := w.on(w.Laptop, "me", "curl", "-sS", "-m", "10", "http://10.0.2.2:5999/"); r.status == 0 {
				t.Error("the gateway's loopback is open")
			}

			p.cmd.Process.Signal(syscall.SIGTERM)
			if status := p.end(); status != 5 {
				t.Errorf("exit status %d, pppd's is 5\n%s", status, p.text())
			}
			w.eventually("slirp has ended", func() bool { return w.on(w.Gateway, "root", "pgrep", "-x", "slirp").status != 0 })
			w.asBefore(before, "ppp and slirp")
		})
	}
}
