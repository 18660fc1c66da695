package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// scanPort is where a scan says it comes from.
const scanPort = 61000

// sampleStep is from one UDP port of Scan's sample to the next.
const sampleStep = 64

// Scan sends a SYN to each of the 65,535 TCP ports of an address, an empty datagram to
// each 64th of UDP and an ICMP echo request, by the machine's own routes. It waits for no
// answers, and returns how many packets the kernel took: of the others it knew that no
// way leads there.
func (m *Machine) Scan(to netip.Addr) (sent int, err error) {
	return m.scan(to, kindOfProbe{unix.IPPROTO_TCP, 1}, kindOfProbe{unix.IPPROTO_UDP, sampleStep}, kindOfProbe{unix.IPPROTO_ICMP, 0})
}

// ScanUDP sends an empty datagram to each of the 65,535 UDP ports, as Scan does.
func (m *Machine) ScanUDP(to netip.Addr) (sent int, err error) {
	return m.scan(to, kindOfProbe{unix.IPPROTO_UDP, 1})
}

// A kindOfProbe is a protocol, and how far it is from one port to the next.
type kindOfProbe struct{ protocol, step int }

func (m *Machine) scan(to netip.Addr, kinds ...kindOfProbe) (sent int, err error) {
	err = m.Do(func() error {
		from, err := sourceFor(to)
		if err != nil {
			return err
		}
		for _, kind := range kinds {
			n, err := scan(from, to, kind)
			sent += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return sent, fmt.Errorf("lab: %s: scanning %v: %w", m.Name, to, err)
	}
	return sent, nil
}

// sourceFor is what the calling thread's machine speaks to an address from.
func sourceFor(to netip.Addr) (netip.Addr, error) {
	domain, there := sockaddr(netip.AddrPortFrom(to, 9))
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, there); err != nil {
		return netip.Addr{}, os.NewSyscallError("connect", err)
	}
	here, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{}, os.NewSyscallError("getsockname", err)
	}
	switch here := here.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(here.Addr), nil
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(here.Addr), nil
	}
	return netip.Addr{}, errors.New("an address of no known family")
}

// sockaddr is an address for a socket, and the socket's domain.
func sockaddr(at netip.AddrPort) (domain int, sa unix.Sockaddr) {
	if at.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// scan sends the packets of one protocol.
func scan(from, to netip.Addr, kind kindOfProbe) (sent int, err error) {
	protocol := kind.protocol
	domain, there := sockaddr(netip.AddrPortFrom(to, 0))
	if protocol == unix.IPPROTO_ICMP && to.Is6() {
		protocol = unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil { // no answer is read
		return 0, os.NewSyscallError("setsockopt", err)
	}
	send := func(segment []byte) error {
		switch err := unix.Sendto(fd, segment, 0, there); {
		case err == nil:
			sent++
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EPERM):
			// What an earlier packet met with may be told by a later one (raw(7)).
		default:
			return os.NewSyscallError("sendto", err)
		}
		return nil
	}
	if protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6 {
		echo := []byte{8, 0, 0, 0, 0, 1, 0, 1} // RFC 792; the kernel completes RFC 4443's checksum
		if to.Is6() {
			echo[0] = 128
		} else {
			binary.BigEndian.PutUint16(echo[2:], checksum(echo))
		}
		return sent, send(echo)
	}
	for port := 1; port <= 65535; port += kind.step {
		if err := send(probe(from, to, uint16(port), protocol)); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// probe is a SYN (RFC 9293, section 3.1) or an empty datagram (RFC 768) to a port.
func probe(from, to netip.Addr, port uint16, protocol int) []byte {
	var segment []byte
	at := 16
	if protocol == unix.IPPROTO_TCP {
		segment = make([]byte, 20)
		segment[12], segment[13] = 5<<4, 1<<1 // the header's length in words; SYN
		segment[7] = 1
		segment[14] = 0x20 // a window
	} else {
		segment = make([]byte, 8)
		segment[5] = 8 // its length
		at = 6
	}
	binary.BigEndian.PutUint16(segment, scanPort)
	binary.BigEndian.PutUint16(segment[2:], port)
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = append(pseudo, 0, byte(protocol), 0, byte(len(segment)))
	sum := checksum(append(pseudo, segment...))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(segment[at:], sum)
	return segment
}

// checksum is that of RFC 1071 over an even number of octets.
func checksum(octets []byte) uint16 {
	sum := uint32(0)
	for ; len(octets) > 1; octets = octets[2:] {
		sum += uint32(binary.BigEndian.Uint16(octets))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
