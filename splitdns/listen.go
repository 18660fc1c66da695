package splitdns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Port is the one that resolv.conf(5) means; it cannot name another.
const Port = 53

// FirstAddress is the first that Listen tries, and the one it gets unless another
// tunnel has it. It is one of the machine's loopback addresses, all of which are
// its own without being given to a device. So nobody else can reach it, no other
// program is known to use it (systemd-resolved has 127.0.0.53 and .54, Debian's
// dnsmasq 127.0.1.1), and, other than the tunnel's address, it is there before
// the tunnel and after it.
var FirstAddress = netip.AddrFrom4([4]byte{127, 66, 0, 53})

// addresses are how many Listen tries: one for each tunnel that there can be.
const addresses = 16

// isOurs reports whether a is one of the addresses that Listen uses.
func isOurs(a netip.Addr) bool {
	n := FirstAddress
	for range addresses {
		if a.Unmap() == n {
			return true
		}
		n = n.Next()
	}
	return false
}

// Listen opens port 53 of UDP and TCP at the first loopback address where both are
// free, for Serve. It needs the right to ports below 1024 (CAP_NET_BIND_SERVICE).
func Listen() (udp *net.UDPConn, tcp *net.TCPListener, at netip.Addr, err error) {
	at = FirstAddress
	for range addresses {
		if udp, tcp, err = listen(netip.AddrPortFrom(at, Port)); err == nil {
			return udp, tcp, at, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		at = at.Next()
	}
	return nil, nil, netip.Addr{}, fmt.Errorf("splitdns: %w", err)
}

func listen(at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}
