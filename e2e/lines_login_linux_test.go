package e2e_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// telnetdPorts are where Debian's telnetd waits on the gateway, and busybox'.
var telnetdPorts = [2]uint16{23, 24}

// startTelnetds starts both, for the account me and its password.
func (w *world) startTelnetds() {
	w.t.Helper()
	for i, start := range []func(context.Context, lab.TelnetdOptions) (*lab.Inetd, error){w.Gateway.Telnetd, w.Gateway.BusyboxTelnetd} {
		if _, err := start(w.t.Context(), lab.TelnetdOptions{Port: telnetdPorts[i], Password: password}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// byRelay is the way to a login behind the relay.
var byRelay = []string{"--known-as", "home", "--password", "@/home/me/password", fmt.Sprintf("telnet://me@tn-gw:%d", relayPort)}

// TestDirtyLogins logs in through relays that do to octets what relays do, and leave
// enough of telnet for a login. Then there is a terminal on the way, whose controls are
// not even tried.
func TestDirtyLogins(t *testing.T) {
	w := closedWorld(t)
	w.pair("home")
	w.startTelnetds()
	octets, lines := lab.Faults{OctetPerWrite: true}, lab.Faults{CRNL: true}
	for _, tt := range []struct {
		name  string
		chaos lab.Chaos
		back  string // what is said of the line
		ports []uint16
	}{
		{"from far away", lab.Chaos{Up: lab.Faults{Delay: 20 * time.Millisecond}, Down: lab.Faults{Delay: 20 * time.Millisecond}}, "34 octets escaped, 88 %", telnetdPorts[:]},
		{"one octet per write", lab.Chaos{Up: octets, Down: octets}, "34 octets escaped, 88 %", telnetdPorts[:1]},
		// Where CR and NUL come apart, busybox' telnetd types the NUL: into the password.
		{"one octet per write, back", lab.Chaos{Down: octets}, "34 octets escaped, 88 %", telnetdPorts[1:]},
		{"a banner of 64 KiB", lab.Chaos{Down: lab.Faults{Prefix: chatter(64 << 10)}}, "34 octets escaped, 88 %", telnetdPorts[:]},
		{"CR and LF mapped", lab.Chaos{Up: lines, Down: lines}, "34 octets escaped, 88 %", telnetdPorts[:]},
		// Without IAC no telnet is left, and this one of them does without.
		{"bit 7 taken off, back", lab.Chaos{Down: lab.Faults{Seven: true}}, "7-bit armour, 75 %", telnetdPorts[1:]},
	} {
		for _, port := range tt.ports {
			t.Run(fmt.Sprintf("%s, port %d", tt.name, port), func(t *testing.T) {
				w := w.in(t)
				relay, err := tt.chaos.Listen(w.Firewall, relayPort, netip.AddrPortFrom(lab.Gateway4, port))
				if err != nil {
					t.Fatal(err)
				}
				defer relay.Close()
				w.says(w.upAs("me", byRelay...).out, "ok line       34 octets escaped, 88 % there, "+tt.back+" back")
				w.both(100_000)
				w.down()
				w.noProcesses()
			})
		}
	}
}
