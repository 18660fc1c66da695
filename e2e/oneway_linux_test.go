package e2e_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// tunnelDevice is what a kernel interface is called, on either side.
const tunnelDevice = "bodkin0"

// oneWay scans from the side that nobody is reached from, and wants nothing of it to
// arrive at the other: not at its device, nor in what the tunnel has carried.
func (w *world) oneWay(p pairing) {
	w.t.Helper()
	guarded, from, inner := w.Laptop, w.Gateway, innerNear // p.far is nat, or p.near a proxy
	if p.near == "nat" {
		guarded, from = w.Gateway, w.Laptop
	}
	if p.near == "socks" {
		w.scanProxied(from, inner)
		return
	}
	came := w.capture(guarded, tunnelDevice)
	for _, to := range []netip.Addr{inner.four, inner.six} {
		if _, err := from.Scan(to); err != nil {
			w.t.Error(err)
		}
	}
	w.onlyEchoes(guarded, came)
}

// capture records what a device takes in, for the time of the test.
func (w *world) capture(m *lab.Machine, device string) *lab.Capture {
	w.t.Helper()
	c, err := m.Capture(device)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// onlyEchoes wants nothing to have come in by the tunnel but the answer to a ping that
// is sent now, and the end of connections that this side had made. What was sent before
// the ping from the other side is here before its answer.
func (w *world) onlyEchoes(m *lab.Machine, came *lab.Capture) {
	w.t.Helper()
	if r := w.on(m, "me", "ping", "-c", "2", "-i", "0.2", "-w", "10", innerResolver); r.status != 0 {
		w.t.Errorf("nothing is carried any more:\n%s", r.out)
	}
	var lines []string
	w.eventually("the ping's answers are seen", func() bool {
		lines = came.In()
		return slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "icmp type 0 ") })
	})
	asked := []string{"icmp type 0 code 0 from " + innerResolver + " to "}
	for _, n := range []network{internet, corp} { // no scan says that it comes from there
		asked = append(asked, fmt.Sprintf("tcp from %v to ", n.four), fmt.Sprintf("tcp from %v to ", n.six))
	}
	for _, line := range lines {
		if !slices.ContainsFunc(asked, func(known string) bool { return strings.HasPrefix(line, known) }) {
			w.t.Errorf("unasked for, there came to %s: %s", m.Name, line)
		}
	}
}

// scanProxied is oneWay where the side that is guarded has a proxy: no device shows what
// comes, and what does must end in it.
func (w *world) scanProxied(from *lab.Machine, inner network) {
	w.t.Helper()
	w.eventually("the programs' connections to the proxy have ended", func() bool {
		return w.on(w.Laptop, "root", "ss", "-Htn", "sport", "=", "1080", "or", "dport", "=", "1080").out == ""
	})
	listens := w.on(w.Laptop, "root", "ss", "-Hltun").out
	cable := w.capture(w.Laptop, "lo")
	for _, to := range []netip.Addr{inner.four, inner.six} {
		if _, err := from.Scan(to); err != nil {
			w.t.Error(err)
		}
	}
	if in := cable.In(); len(in) > 0 {
		w.t.Errorf("somebody speaks on the laptop's loopback:\n%s", strings.Join(in, "\n"))
	}
	if now := w.on(w.Laptop, "root", "ss", "-Hltun").out; now != listens {
		w.t.Errorf("what listens on the laptop was\n%s\nand is\n%s", listens, now)
	}
	u := user{machine: w.Laptop, proxied: true}
	if control, c, err := associate(within(w.t, patience), u.machine); err != nil {
		w.t.Errorf("the proxy is no more: %v", err)
	} else {
		c.Close()
		control.Close()
	}
}

// TestOneWay is the guarantee of a NAT with the tunnel in use: while a program has a
// connection and a flow of datagrams through it, nobody gets a packet to the side of the
// interface, neither from the NAT's machine nor from who reaches that.
func TestOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range []pairing{{"tun", "nat"}, {"nat", "tun"}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			s := sides[0]
			w := newSideWorld(t, s)
			w.rootsKey()
			guarded, nat, neighbour, there := w.Laptop, w.Gateway, w.Internet, s.there
			outer := []netip.Addr{lab.GatewayOut4, lab.GatewayOut6}
			args := []string{"me@gw"}
			if p.near == "nat" {
				guarded, nat, neighbour, there = w.Gateway, w.Laptop, w.Corp, s.here
				outer = []netip.Addr{lab.Laptop4, lab.Laptop6}
				args = append([]string{"-e", "ssh -i " + rootKey, "root@gw"}, s.here.prefixes...)
			}
			w.up(append([]string{"--near", p.near, "--far", p.far}, args...)...)

			stream, err := guarded.Dial(t.Context(), "tcp", netip.AddrPortFrom(there.four, lab.EchoPort).String())
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			datagrams, err := guarded.Dial(t.Context(), "udp", netip.AddrPortFrom(there.four, lab.EchoPort).String())
			if err != nil {
				t.Fatal(err)
			}
			defer datagrams.Close()
			both := map[string]interface {
				Write([]byte) (int, error)
				Read([]byte) (int, error)
				SetDeadline(time.Time) error
			}{"stream": stream, "datagrams": datagrams}
			speak := func(when string) {
				for name, c := range both {
					c.SetDeadline(time.Now().Add(5 * time.Second))
					got := make([]byte, 8)
					if _, err := c.Write([]byte("are you?")); err != nil {
						t.Errorf("%s the scan, the %s: %v", when, name, err)
					} else if n, err := c.Read(got); err != nil {
						t.Errorf("%s the scan, the %s: %q, %v", when, name, got[:n], err)
					}
				}
			}
			speak("before")

			came := w.capture(guarded, tunnelDevice)
			for _, to := range append([]netip.Addr{innerNear.four, innerNear.six, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, outer...) {
				if _, err := nat.Scan(to); err != nil {
					t.Error(err)
				}
			}
			for _, to := range outer {
				if sent, err := neighbour.ScanUDP(to); err != nil || sent < 60000 {
					t.Errorf("%d datagrams to %v: %v", sent, to, err)
				}
				if sent, err := neighbour.Scan(to); err != nil || sent < 60000 {
					t.Errorf("%d probes to %v: %v", sent, to, err)
				}
			}
			w.onlyEchoes(guarded, came)
			came.Close()
			speak("after")
		})
	}
	// What makes the difference: with an interface on both sides the same scan arrives.
	t.Run("tun here, tun there", func(t *testing.T) {
		t.Parallel()
		w := newSideWorld(t, sides[0])
		w.rootsKey()
		w.up("-e", "ssh -i "+rootKey, "--far", "tun", "root@gw", "10.77.0.0/16")
		came := w.capture(w.Laptop, tunnelDevice)
		if sent, err := w.Gateway.Scan(innerNear.four); err != nil || sent < 1000 {
			t.Errorf("%d probes: %v", sent, err)
		}
		w.eventually("the scan is seen", func() bool { in, _ := came.Count(); return in > 1000 })
	})
}
