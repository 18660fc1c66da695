package story

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/bodkin-net/bodkin/lab"
)

// Of the second act: a name that its proxy knows, and the account's password.
const (
	home     = "home"
	password = "open sesame"
)

const telnetTopology = `
     laptop               firewall              gateway               internet
  +-------------+      +-------------+      +--------------+      +---------------+
  | account me  |      | lets out    |      | telnetd      |      | web, DNS      |
  | bodkin      |------| nothing but |------| account me,  |------|               |
  |             |      | by tn-gw    |      | a password   |      |               |
  +-------------+      +-------------+      +--------------+      +---------------+

`

// telnet is the second act, on a lab of its own: a firewall with a telnet proxy on it,
// and no ssh.
func (t *teller) telnet(ctx context.Context, program string) error {
	l, err := lab.New(ctx, lab.Options{Closed: true})
	if err != nil {
		return err
	}
	defer l.Close()
	for _, m := range []*lab.Machine{l.Laptop, l.Gateway} {
		if err := m.InstallAs(program, "bodkin"); err != nil {
			return fmt.Errorf("story: installing bodkin on the %s: %w", m.Name, err)
		}
	}
	if _, err := l.Gateway.Telnetd(ctx, lab.TelnetdOptions{Password: password}); err != nil {
		return err
	}
	if _, err := l.Firewall.TelnetProxy(lab.TelnetProxyOptions{Echo: true, Hosts: map[string]netip.Addr{home: lab.Gateway4}}); err != nil {
		return err
	}
	if err := l.Laptop.WriteFile("/home/me/password", []byte(password+"\n"), 0o600, "me"); err != nil {
		return err
	}
	s := &scene{teller: t, lab: l}
	before, err := l.Laptop.Snapshot()
	if err != nil {
		return err
	}

	s.chapter("A worse firewall: no ssh, a telnet proxy is all")
	t.print(telnetTopology)
	s.say("The two machines have met before, and know each other's keys: bodkin key new, bodkin key trust.")
	if err := pair(ctx, l); err != nil {
		return err
	}
	if !s.one(ctx, step{line: "bodkin up -d --via telnet://" + lab.FirewallInside4.String() + " --password @password telnet://me@" + home}) {
		return s.aftermath(before)
	}
	s.one(ctx, step{line: "curl -sS -m 5 http://web.example/", want: regexp.MustCompile(`^bodkin lab`), note: "by name, through the proxy's dialogue, a login and a shell; TLS inside"})
	s.one(ctx, step{line: "ping -c 3 -i 0.2 -W 2 " + lab.Web6.String(), want: regexp.MustCompile(` 0% packet loss`), tail: 1})
	s.one(ctx, step{line: "bodkin status", want: regexp.MustCompile(`, encrypted from`)})
	s.one(ctx, step{line: "bodkin down"})
	return s.aftermath(before)
}

// pair has the laptop and the gateway know each other's keys.
func pair(ctx context.Context, l *lab.Lab) error {
	on := func(m *lab.Machine, args ...string) (string, error) {
		out, err := m.Command(ctx, "bodkin", append([]string{"key"}, args...)...).As("me").Output()
		if err != nil {
			return "", fmt.Errorf("story: bodkin key %s on the %s: %w", args[0], m.Name, err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	keys := map[*lab.Machine]string{}
	for _, m := range []*lab.Machine{l.Laptop, l.Gateway} {
		public, err := on(m, "new")
		if err != nil {
			return err
		}
		keys[m] = public
	}
	if _, err := on(l.Laptop, "trust", "server", home, keys[l.Gateway]); err != nil {
		return err
	}
	_, err := on(l.Gateway, "trust", "client", keys[l.Laptop])
	return err
}
