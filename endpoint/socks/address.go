package socks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
)

// An address is what a program asks for: an IP address or a name, and a port.
type address struct {
	ip   netip.Addr // not valid: name is it
	name string     // at most 255 octets, as the program wrote it
	port uint16
}

// Address types of RFC 1928, section 5.
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

var (
	errAddressType = errors.New("an unknown type of address")
	errName        = errors.New("no name or address")
)

// hostAddress returns the address of host, written as text. A name that is an address
// in disguise ("127.1", "0x7f000001") stays a name, which no resolver knows.
func hostAddress(host string, port uint16) (address, error) {
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return address{ip: a.Unmap(), port: port}, nil
	}
	if host == "" || len(host) > 255 {
		return address{}, errName
	}
	for _, c := range []byte(host) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default: // a name of a host has no other (RFC 1123, section 2.1), but for the underscore of some
			return address{}, errName
		}
	}
	return address{name: host, port: port}, nil
}

// splitHostPort reads "host:port".
func splitHostPort(s string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", s)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" {
		return "", 0, fmt.Errorf("%q is not host:port", s)
	}
	return host, uint16(n), nil
}

// String is a as "host:port".
func (a address) String() string {
	host := a.name
	if a.ip.IsValid() {
		host = a.ip.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(a.port)))
}

// readAddress reads the address of RFC 1928, section 5, and its port:
//
//	  1     4, 16 or 1+n      2
//	+------+-------------+----------+
//	| ATYP |   address   |   port   |
//	+------+-------------+----------+
//
// It reads no octet more.
func readAddress(r io.Reader) (address, error) {
	var b [1 + 255 + 2]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return address{}, err
	}
	n := 0
	switch b[0] {
	case typeIPv4:
		n = 4
	case typeIPv6:
		n = 16
	case typeName:
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return address{}, err
		}
		n = int(b[0])
		b[0] = typeName
	default:
		return address{}, errAddressType
	}
	if _, err := io.ReadFull(r, b[1:1+n+2]); err != nil {
		return address{}, err
	}
	port := binary.BigEndian.Uint16(b[1+n:])
	if b[0] == typeName {
		return hostAddress(string(b[1:1+n]), port)
	}
	ip, _ := netip.AddrFromSlice(b[1 : 1+n])
	return address{ip: ip.Unmap(), port: port}, nil
}

// appendAddrPort appends a as readAddress reads it; what is not valid as 0.0.0.0:0.
func appendAddrPort(dst []byte, a netip.AddrPort) []byte {
	ip := a.Addr().Unmap()
	switch {
	case ip.Is6():
		dst = append(dst, typeIPv6)
	case ip.Is4():
		dst = append(dst, typeIPv4)
	default:
		dst, ip = append(dst, typeIPv4), netip.IPv4Unspecified()
	}
	dst = append(dst, ip.AsSlice()...)
	return binary.BigEndian.AppendUint16(dst, a.Port())
}
