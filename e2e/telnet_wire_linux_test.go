package e2e_test

import (
	"bytes"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bodkin-net/bodkin/lab"
)

// marked is what these tests send through a tunnel and look for on the way: as the
// payload of TCP and UDP, in a web page's address and as a name to be looked up.
const marked = "meet-me-at-the-fountain"

// carryMarked has each kind of packet carry it, both ways.
func (w *world) carryMarked() {
	w.t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		c, err := w.Laptop.Dial(within(w.t, patience), network, netip.AddrPortFrom(lab.Web4, lab.EchoPort).String())
		if err != nil {
			w.t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		got := make([]byte, len(marked))
		if _, err := io.WriteString(c, marked); err != nil {
			w.t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || string(got) != marked {
			w.t.Fatalf("%s: %q came back, %v", network, got, err)
		}
	}
	w.laptop("curl", "-sS", "-m", "20", "-d", marked, "http://web.example/"+marked)
	w.on(w.Laptop, "me", "dig", "+time=10", "+tries=1", marked+".example")
}

// readable are words of what carryMarked sends and of the tunnel's own hello.
var readable = []string{marked, "fountain", "HTTP/1.1", "bodkin e2e linux"}

// TestTelnetCarriesNothingReadable looks at every octet between the laptop and the
// proxy. The login's password is there once, for telnet protects nothing; of what the
// tunnel carries there is not a word. That the same words are found when slirp speaks
// plain PPP over the same way shows that they would be seen.
func TestTelnetCarriesNothingReadable(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true}, lab.TelnetdOptions{})
	w.pair("home")
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	captured := func(more ...string) (up, down []byte, said string) {
		relay, err := lab.Chaos{}.Listen(w.Firewall, 2323, netip.AddrPortFrom(lab.FirewallInside4, lab.TelnetPort))
		if err != nil {
			t.Fatal(err)
		}
		r := w.upAs("me", append([]string{"--via", "telnet://tn-gw:2323", "--password", "@/home/me/password", "telnet://me@home"}, more...)...)
		w.carryMarked()
		said = r.out + w.laptop("bodkin", "status")
		w.down()
		relay.Close()
		up, down = relay.Captured()
		if n, m := relay.Passed(); n > int64(len(up)) || m > int64(len(down)) {
			t.Fatalf("of %d octets up and %d down only %d and %d are there to look at", n, m, len(up), len(down))
		}
		return up, down, said
	}

	up, down, said := captured()
	w.says(said, ", encrypted from here to the far half")
	before, after, ok := bytes.Cut(up, []byte(password+"\r"))
	if !ok {
		t.Fatalf("the password is not on the way to the login: nothing here would prove anything")
	}
	for what, octets := range map[string][]byte{"before the login": before, "after the login": after, "on the way back": down} {
		if bytes.Contains(octets, []byte(password)) {
			t.Errorf("the password is on the way %s", what)
		}
		for _, word := range readable {
			if at := bytes.Index(octets, []byte(word)); at >= 0 {
				t.Errorf("%s the octets hold, at %d, %q", what, at, octets[max(0, at-40):min(len(octets), at+80)])
			}
		}
	}

	up, down, said = captured("--far", "slirp", "--insecure-accept-eavesdropping")
	w.says(said, "NOT encrypted", "whoever is on the way can read and change")
	for what, octets := range map[string][]byte{"up": up, "down": down} {
		if !bytes.Contains(octets, []byte(marked)) {
			t.Errorf("%s, the marked octets are not found in plain PPP", what)
		}
	}
}

// hostile is what a host that means harm prints: it sets the clipboard, clears the
// screen, writes over its own line and turns text around.
const hostile = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x1b[1;1Hgone\x9b31m\u009b31mred\rover\b\b\x00\x7f\u202etxt.exe\xff\xff\xfe\r\n" +
	"\x1bP+q\x1b\\\x1b[6n\x05\x0e\r\nbodkin: error: all is lost\r\n"

// ownColours are what bodkin itself sends to a terminal besides text.
var ownColours = regexp.MustCompile("\x1b\\[(?:[0-9;]*m|K)")

// TestTelnetHostileBanner: with -v a user sees what proxy and host print, and a
// terminal is shown nothing but text by it. What asks for a password before the login,
// or after it, gets none.
func TestTelnetHostileBanner(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true}, lab.TelnetdOptions{Motd: hostile + "login: \r\nPassword: "})
	w.pair("home")
	relay, err := lab.Chaos{Down: lab.Faults{Prefix: []byte(hostile)}}.Listen(w.Firewall, 2323, netip.AddrPortFrom(lab.FirewallInside4, lab.TelnetPort))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"up", "-d", "-vv", "--via", "telnet://tn-gw:2323", "--password", "me@home=@/home/me/password", "telnet://me@home"}
	for range 2 {
		tty := w.onTerminal("bodkin", args...)
		if status := tty.end(); status != 0 {
			t.Errorf("exit status %d", status)
		}
		text := strings.ReplaceAll(ownColours.ReplaceAllString(tty.text(), ""), "\r\n", "\n")
		w.says(text, "tn-gw:2323 says: ", "me@home says: ", "all is lost")
		if strings.Contains(text, password) {
			t.Errorf("the password is shown")
		}
		for line := range strings.Lines(strings.ReplaceAll(text, "\r  .. far half sent", "\n  .. far half sent")) {
			line = strings.TrimSuffix(line, "\n")
			if at := strings.IndexFunc(line, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }); at >= 0 {
				t.Errorf("octet %d is not text: %q", at, line)
			}
			if strings.HasPrefix(line, "bodkin: error") || strings.HasPrefix(line, "over") {
				t.Errorf("the host's words stand where bodkin's do: %q", line)
			}
		}
		if t.Failed() {
			t.Logf("the terminal was sent %q", tty.text())
		}
		w.bodkin("down")
	}
	up, _ := relay.Captured()
	if n := bytes.Count(up, []byte(password)); n != 2 {
		t.Errorf("in two logins the password was typed %d times", n)
	}
}
