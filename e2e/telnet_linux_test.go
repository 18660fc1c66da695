package e2e_test

import (
	"net/netip"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

const password = "open sesame 7"

// telnetWorld is a lab whose firewall lets nothing through but by a telnet proxy of its
// own, with a telnetd on the gateway, called home there.
func telnetWorld(t *testing.T, proxy lab.TelnetProxyOptions, d lab.TelnetdOptions) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Closed: true})
	d.Password = password
	if _, err := w.Gateway.Telnetd(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	proxy.Hosts = map[string]netip.Addr{"home": lab.Gateway4}
	if _, err := w.Firewall.TelnetProxy(proxy); err != nil {
		t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/password", password+"\n", "me")
	return w
}

var viaTelnet = []string{"--via", "telnet://" + lab.FirewallInside4.String(), "--password", "me@home=@/home/me/password", "telnet://me@home"}

// TestTelnetToFullIP: a telnet proxy's dialogue, a login with a password, a shell, and
// then full IP.
func TestTelnetToFullIP(t *testing.T) {
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true}, lab.TelnetdOptions{})
	w.pair("home")
	r := w.upAs("me", viaTelnet...)
	t.Log(r.out)
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	w.laptop("ping", "-c", "1", "-w", "20", lab.Web4.String())
}
