package e2e_test

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// password is that of the account me on the gateway, where there is no ssh.
const password = "open sesame 7"

// telnetWorld is a lab whose firewall lets nothing through but by a telnet proxy of its
// own, tn-gw, with a telnetd on the gateway, which the proxy knows as home.
func telnetWorld(t *testing.T, proxy lab.TelnetProxyOptions, d lab.TelnetdOptions) *world {
	t.Helper()
	w := closedWorld(t)
	d.Password = password
	if _, err := w.Gateway.Telnetd(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	proxy.Hosts = map[string]netip.Addr{"home": lab.Gateway4}
	if _, err := w.Firewall.TelnetProxy(proxy); err != nil {
		t.Fatal(err)
	}
	return w
}

// closedWorld is a lab whose firewall lets nothing through at all. The laptop knows it
// as tn-gw, and has the password of the gateway's account in a file.
func closedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{Closed: true})
	hosts, err := w.Laptop.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	text := string(hosts) + lab.FirewallInside4.String() + " tn-gw\n"
	if err := w.Laptop.WriteFile("/etc/hosts", []byte(text), 0o644, "root"); err != nil {
		t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/password", password+"\n", "me")
	return w
}

// viaTelnet is the way through tn-gw to a login at home.
var viaTelnet = []string{"--via", "telnet://tn-gw", "--password", "me@home=@/home/me/password", "telnet://me@home"}

// through is viaTelnet with more before it.
func through(more ...string) []string { return slices.Concat(more, viaTelnet) }

// telnetProxies are those that a way by telnet meets.
var telnetProxies = []struct {
	name  string
	proxy lab.TelnetProxyOptions
	args  []string // after "bodkin up -d"; nil: viaTelnet
	bulk  int64    // octets each way
}{
	{name: "verbatim, echoing", proxy: lab.TelnetProxyOptions{Echo: true}, bulk: 20_000_000},
	{name: "verbatim, no telnet of its own", bulk: 1_000_000},
	{name: "terminating telnet", proxy: lab.TelnetProxyOptions{Echo: true, Terminating: true}, bulk: 20_000_000},
	{
		name:  "terminating telnet with BINARY, and a password of its own",
		proxy: lab.TelnetProxyOptions{Terminating: true, Binary: true, User: "visitor", Password: "let me out"},
		args: []string{"--via", "telnet://visitor@tn-gw", "--password", "visitor@tn-gw=@/home/me/proxy-password",
			"--password", "home=@/home/me/password", "telnet://me@home"},
		bulk: 1_000_000,
	},
	{
		name:  "a challenge, which a token answers",
		proxy: lab.TelnetProxyOptions{Echo: true, User: "visitor", Answer: reversed},
		args: []string{"--via", "telnet://visitor@tn-gw", "--password", `tn-gw=run:echo "$BODKIN_QUESTION" | sed 's/.*"\([0-9]*\)".*/\1/' | rev`,
			"--password", "home=@/home/me/password", "telnet://me@home"},
		bulk: 1_000_000,
	},
	{
		name:  "by IPv6, to an address, with another line",
		proxy: lab.TelnetProxyOptions{Echo: true},
		args: []string{"--via", "telnet://[" + lab.FirewallInside6.String() + "]?connect=connect%20%25h%20%25p", "--known-as", "home",
			"--password", "@/home/me/password", "telnet://me@" + lab.Gateway4.String()},
		bulk: 1_000_000,
	},
}

// reversed is what the token of these tests makes of a challenge.
func reversed(challenge string) string {
	octets := []byte(challenge)
	slices.Reverse(octets)
	return string(octets)
}

// TestTelnetToFullIP: a telnet proxy's dialogue, a login with a password, a shell, and
// then full IP, whose packets are those of a tunnel by ssh. No second login is needed,
// and the far half is sent once.
func TestTelnetToFullIP(t *testing.T) {
	for _, tt := range telnetProxies {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := telnetWorld(t, tt.proxy, lab.TelnetdOptions{Motd: "Welcome.\nNo password is ever asked for by mail:\n\n"})
			w.write(w.Laptop, "/home/me/proxy-password", "let me out\n", "me")
			w.pair("home")
			before := w.snapshot()
			args := tt.args
			if args == nil {
				args = viaTelnet
			}
			r := w.upAs("me", args...)
			w.says(r.out, "ok proxy", "ok login", "ok far half   put into /home/me/.cache/bodkin", "ok line", "ok key        TLS 1.3")
			for _, secret := range []string{password, "let me out"} {
				if strings.Contains(r.out, secret) {
					t.Errorf("a password is shown:\n%s", r.out)
				}
			}
			if s := w.status(); !s.Encrypted {
				t.Errorf("status: %+v", s)
			}
			w.fullIP(tt.bulk)
			w.down()
			w.asBefore(before, "up, down")
			w.noProcesses()
			if r := w.upAs("me", args...); !strings.Contains(r.out, "was there already") {
				t.Errorf("the far half is sent again:\n%s", r.out)
			}
		})
	}
}

// fullIP uses a tunnel as programs do, and moves so many octets each way.
func (w *world) fullIP(bulk int64) {
	w.t.Helper()
	w.httpByName()
	w.dns()
	w.udp()
	for _, f := range families {
		w.says(w.laptop("ping", f.flag, "-c", "2", "-i", "0.2", "-W", "10", f.web.String()), " 2 received")
	}
	var both sync.WaitGroup
	both.Go(func() {
		if err := w.download(lab.Web4, bulk); err != nil {
			w.t.Errorf("%d octets down: %v", bulk, err)
		}
	})
	both.Go(func() {
		if err := w.upload(lab.Web6, bulk); err != nil {
			w.t.Errorf("%d octets up: %v", bulk, err)
		}
	})
	both.Wait()
}
