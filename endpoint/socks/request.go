package socks

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// Numbers of RFC 1928, sections 3 to 6, RFC 1929, section 2, and SOCKS 4 ("SOCKS: A
// protocol for TCP proxy across firewalls", with its extension 4A).
const (
	version5 = 5
	version4 = 4

	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	passwordVersion = 1

	commandConnect   = 1
	commandBind      = 2
	commandAssociate = 3

	replyDone        = 0
	replyFailed      = 1
	replyProhibited  = 2
	replyNoNetwork   = 3
	replyNoHost      = 4
	replyRefused     = 5
	replyTimeout     = 6 // "TTL expired": nothing else there means too late
	replyCommand     = 7
	replyAddressType = 8

	granted4, rejected4 = 90, 91
)

// A request is what a program of SOCKS asks for.
type request struct {
	version uint8
	command uint8
	to      address
}

// A protocolError says that a handshake is none, or asks for what is not to be had.
// reply is what has been left to say to the program, if anything.
type protocolError struct {
	words string
	reply []byte
}

func (e *protocolError) Error() string { return "socks: handshake: " + e.words }

var errPassword = errors.New("socks: handshake: user and password are not these")

// readRequest5 is the dialogue of RFC 1928, sections 3 and 4, up to the request, and
// of RFC 1929 where a user is asked for; the version octet has been read. It reads no
// octet after the request, so a program may send what follows at once.
func readRequest5(s io.ReadWriter, user, password string) (request, error) {
	var b [2 + 255]byte
	if _, err := io.ReadFull(s, b[:1]); err != nil {
		return request{}, err
	}
	methods := b[1 : 1+int(b[0])]
	if _, err := io.ReadFull(s, methods); err != nil {
		return request{}, err
	}
	method := byte(methodNone)
	if user != "" {
		method = methodPassword
	}
	if bytes.IndexByte(methods, method) < 0 {
		return request{}, &protocolError{"no common way to authenticate", []byte{version5, methodRefused}}
	}
	if _, err := s.Write([]byte{version5, method}); err != nil {
		return request{}, err
	}
	if method == methodPassword {
		if err := readPassword(s, user, password); err != nil {
			return request{}, err
		}
	}
	if _, err := io.ReadFull(s, b[:3]); err != nil {
		return request{}, err
	}
	r := request{version: version5, command: b[1]}
	if b[0] != version5 {
		return r, &protocolError{words: "a request of another version"}
	}
	var err error
	r.to, err = readAddress(s)
	switch {
	case errors.Is(err, errAddressType):
		return r, &protocolError{err.Error(), appendReply5(nil, replyAddressType, netip.AddrPort{})}
	case errors.Is(err, errName):
		return r, &protocolError{err.Error(), appendReply5(nil, replyNoHost, netip.AddrPort{})}
	}
	return r, err
}

// readPassword is the dialogue of RFC 1929, section 2:
//
//	  1      1     1 to 255   1     1 to 255
//	+-----+------+---------+------+---------+
//	|  1  | ulen |  user   | plen | passwd  |
//	+-----+------+---------+------+---------+
func readPassword(s io.ReadWriter, user, password string) error {
	var version [1]byte
	if _, err := io.ReadFull(s, version[:]); err != nil {
		return err
	}
	if version[0] != passwordVersion {
		return &protocolError{words: "a password in another version"}
	}
	var given [2][]byte
	for i := range given {
		var n [1]byte
		if _, err := io.ReadFull(s, n[:]); err != nil {
			return err
		}
		given[i] = make([]byte, n[0])
		if _, err := io.ReadFull(s, given[i]); err != nil {
			return err
		}
	}
	if !sameSecret(given[0], given[1], user, password) {
		s.Write([]byte{passwordVersion, 1}) // the connection ends either way
		return errPassword
	}
	_, err := s.Write([]byte{passwordVersion, 0})
	return err
}

// sameSecret compares in a time that tells nothing but lengths.
func sameSecret(user, password []byte, wantUser, wantPassword string) bool {
	return subtle.ConstantTimeCompare(user, []byte(wantUser))&subtle.ConstantTimeCompare(password, []byte(wantPassword)) == 1
}

// readRequest4 reads a request of SOCKS 4 or 4A after its version octet:
//
//	   1       2       4       n     1    n (4A: the address is 0.0.0.x)  1
//	+-----+--------+--------+------+---+---------------------------------+---+
//	| CD  |  port  |   IP   | user | 0 |              name               | 0 |
//	+-----+--------+--------+------+---+---------------------------------+---+
func readRequest4(s io.Reader) (request, error) {
	var b [7]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return request{}, err
	}
	r := request{version: version4, command: b[0], to: address{port: binary.BigEndian.Uint16(b[1:])}}
	if _, err := readString(s); err != nil { // the user proves nothing
		return r, err
	}
	if b[3] != 0 || b[4] != 0 || b[5] != 0 || b[6] == 0 {
		r.to.ip = netip.AddrFrom4([4]byte(b[3:]))
		return r, nil
	}
	name, err := readString(s)
	if err != nil {
		return r, err
	}
	if r.to, err = hostAddress(name, r.to.port); err != nil {
		return r, &protocolError{err.Error(), appendReply4(nil, rejected4)}
	}
	return r, nil
}

// readString reads a string of at most 255 octets up to its NUL, and no octet more.
func readString(s io.Reader) (string, error) {
	var text []byte
	var b [1]byte
	for {
		if _, err := io.ReadFull(s, b[:]); err != nil {
			return "", err
		}
		if b[0] == 0 {
			return string(text), nil
		}
		if len(text) == 255 {
			return "", &protocolError{"a string without end", appendReply4(nil, rejected4)}
		}
		text = append(text, b[0])
	}
}

// appendReply5 appends the reply of RFC 1928, section 6.
func appendReply5(dst []byte, code byte, bound netip.AddrPort) []byte {
	return appendAddrPort(append(dst, version5, code, 0), bound)
}

// appendReply4 appends a reply of SOCKS 4, whose address nobody reads.
func appendReply4(dst []byte, code byte) []byte {
	return append(dst, 0, code, 0, 0, 0, 0, 0, 0)
}

// appendReply appends the reply to r that code of RFC 1928 says.
func (r *request) appendReply(dst []byte, code byte, bound netip.AddrPort) []byte {
	switch {
	case r.version == version5:
		return appendReply5(dst, code, bound)
	case code == replyDone:
		return appendReply4(dst, granted4)
	}
	return appendReply4(dst, rejected4)
}
