package socks

import (
	"bytes"
	"errors"
	"net/netip"
)

var errFragment = errors.New("a fragment")

// parseDatagram reads what a program sends to its UDP association (RFC 1928, section
// 7); data is a part of b. Fragments are none of ours, as the RFC permits.
//
//	   2      1      1   4, 16 or 1+n   2
//	+-----+------+------+------------+------+------ - -
//	|  0  | FRAG | ATYP |  address   | port | data
//	+-----+------+------+------------+------+------ - -
func parseDatagram(b []byte) (to address, data []byte, err error) {
	if len(b) < 3 {
		return to, nil, errName
	}
	if b[2] != 0 {
		return to, nil, errFragment
	}
	r := bytes.NewReader(b[3:])
	if to, err = readAddress(r); err != nil {
		return to, nil, err
	}
	if to.port == 0 {
		return to, nil, errName
	}
	return to, b[len(b)-r.Len():], nil
}

// datagramHeaderLen is the most octets appendDatagramHeader appends.
const datagramHeaderLen = 3 + 1 + 16 + 2

// appendDatagramHeader appends what comes before a datagram from from.
func appendDatagramHeader(dst []byte, from netip.AddrPort) []byte {
	return appendAddrPort(append(dst, 0, 0, 0), from)
}
