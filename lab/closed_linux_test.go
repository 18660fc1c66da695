package lab

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A closed firewall passes nothing, not even sshd, but answers on its own addresses.
func TestClosed(t *testing.T) {
	l := closedLab(t)
	relay, err := Chaos{}.Listen(l.Firewall, 4000, netip.AddrPortFrom(Gateway4, SSHPort))
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	for _, a := range []netip.Addr{FirewallInside4, FirewallInside6} {
		if err := exchange(l.Laptop, "tcp", netip.AddrPortFrom(a, 4000)); err != nil {
			t.Errorf("sshd through a relay at %v: %v", a, err)
		}
		if _, err := dial(l.Laptop, "tcp", netip.AddrPortFrom(a, 4001)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v port 4001: %v, want a refusal", a, err)
		}
	}
	if leaks := l.Leaks(); len(leaks) > 0 {
		t.Errorf("TCP to the firewall is reported: %q", leaks)
	}
	hidden := []netip.AddrPort{
		netip.AddrPortFrom(Gateway4, SSHPort), netip.AddrPortFrom(Gateway6, SSHPort),
		netip.AddrPortFrom(firewallOut4, 4000), netip.AddrPortFrom(Web4, WebPort),
	}
	var all sync.WaitGroup
	for _, to := range hidden {
		all.Go(func() {
			_, err := dial(l.Laptop, "tcp", to)
			if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
				t.Errorf("%v: %v, want silence", to, err)
			}
		})
	}
	all.Wait()
	leaks := strings.Join(l.Leaks(), "\n")
	for _, to := range hidden {
		if !strings.Contains(leaks, "to "+to.String()+" ") {
			t.Errorf("%v is not among %q", to, leaks)
		}
	}
	if err := l.ResetLeaks(); err != nil {
		t.Fatal(err)
	}
}
