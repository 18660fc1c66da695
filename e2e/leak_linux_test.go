package e2e_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/bodkin-net/bodkin/lab"
)

// TestNothingLeaks injects routes that are more specific than any of ours, as a
// hostile DHCP server does (CVE-2024-3661), and looks at the laptop's cable.
func TestNothingLeaks(t *testing.T) {
	w := newWorld(t, lab.Options{})

	// First the oracle itself: without a tunnel it sees every probe.
	w.probe()
	seen := strings.Join(w.Leaks(), "\n")
	w.says(seen,
		"tcp from 192.0.2.10 to 203.0.113.100:80", "udp from 192.0.2.10 to 203.0.113.53:53", "icmp type 8",
		"tcp from 2001:db8:1::10 to [2001:db8:f::100]:80", "udp from 2001:db8:1::10 to [2001:db8:f::53]:53", "icmp type 128")

	w.up("me@gw")
	w.clean("the tunnel is up", w.probe)
	w.injectRoutes()
	w.clean("foreign routes are injected", w.probe)
	for _, f := range families {
		w.laptop("curl", "-sS", "-f", f.flag, "-m", "10", "-o", "/dev/null", "http://web.example/")
	}
	w.clean("the device is deleted by hand", func() {
		if link, err := w.Laptop.Netlink().LinkByName("bodkin0"); err == nil {
			if err := w.Laptop.Netlink().LinkDel(link); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDeadTunnelLeaksNothing kills every process: until clean, all is refused.
func TestDeadTunnelLeaksNothing(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw")
	w.injectRoutes()
	w.clean("every process was killed", func() {
		w.killAll()
		w.probe()
	})
	began := time.Now()
	if err := w.knock(w.Laptop, "tcp", netip.AddrPortFrom(lab.Web4, lab.WebPort)); err == nil || time.Since(began) > time.Second {
		t.Errorf("through a dead tunnel: %v after %v, want a refusal at once", err, time.Since(began))
	}
	w.laptop("sudo", "bodkin", "clean")
}

// TestOnlyThePrefix is the VPN use: what was not asked for goes its old way.
func TestOnlyThePrefix(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw", "10.20.0.0/24", "fd20::/64")
	w.clean("an office's prefix is routed", func() {
		w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(lab.Office4, "/"))
		w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(lab.Office6, "/"))
	})
	if err := w.send("tcp", netip.AddrPortFrom(lab.Web4, lab.WebPort)); err == nil {
		t.Error("the web host answers, which no tunnel leads to")
	}
	w.says(strings.Join(w.Leaks(), "\n"), "tcp from 192.0.2.10 to 203.0.113.100:80")
}

// TestExclude keeps a prefix out of the tunnel.
func TestExclude(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw", "-x", "203.0.113.64/27")
	w.clean("another prefix is excluded", func() {
		w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", url(lab.Web4, "/"))
	})
	w.send("udp", netip.AddrPortFrom(lab.Hole4, 80))
	w.says(strings.Join(w.Leaks(), "\n"), "udp from 192.0.2.10 to 203.0.113.66:80")
}

// clean fails the test if doing something lets a packet out beside the tunnel.
func (w *world) clean(when string, do func()) {
	w.t.Helper()
	if err := w.ResetLeaks(); err != nil {
		w.t.Fatal(err)
	}
	do()
	if leaks := w.Leaks(); len(leaks) > 0 {
		w.t.Errorf("when %s, this leaves outside the tunnel:\n%s", when, strings.Join(leaks, "\n"))
	}
}

// injectRoutes adds what a DHCP server may: exact, and quarters of everything.
func (w *world) injectRoutes() {
	w.t.Helper()
	for _, r := range []struct{ to, via string }{
		{"203.0.113.96/27", "192.0.2.1"}, {"203.0.113.53/32", "192.0.2.1"},
		{"0.0.0.0/2", "192.0.2.1"}, {"64.0.0.0/2", "192.0.2.1"}, {"128.0.0.0/2", "192.0.2.1"}, {"192.0.0.0/2", "192.0.2.1"},
		{"2001:db8:f::/64", "2001:db8:1::1"}, {"2001:db8:f::100/128", "2001:db8:1::1"}, {"2000::/4", "2001:db8:1::1"},
	} {
		_, dst, err := net.ParseCIDR(r.to)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.Laptop.Netlink().RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(r.via)}); err != nil {
			w.t.Fatalf("adding a route to %s: %v", r.to, err)
		}
	}
}

// probe sends one of each kind to every host worth watching.
func (w *world) probe() {
	var sending sync.WaitGroup
	for _, host := range []netip.Addr{lab.Web4, lab.Web6, lab.DNS4, lab.DNS6, lab.Hole4, lab.Hole6} {
		for _, port := range []uint16{53, 80, 443} {
			to := netip.AddrPortFrom(host, port)
			sending.Go(func() { w.send("udp", to) })
			sending.Go(func() { w.send("tcp", to) })
		}
		sending.Go(func() {
			w.on(w.Laptop, "me", "ping", "-c", "2", "-i", "0.2", "-W", "1", host.String())
		})
	}
	sending.Wait()
}

// send sends a packet or two. It fails if nothing takes them within half a second.
func (w *world) send(network string, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 500*time.Millisecond)
	defer cancel()
	c, err := w.Laptop.Dial(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("probe"))
	return err
}
