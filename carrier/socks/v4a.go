package socks

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/bodkin-net/bodkin/carrier"
)

// The codes of an answer ("SOCKS: A protocol for TCP proxy across firewalls").
const (
	v4Granted  = 90
	v4Rejected = 91
	v4NoIdent  = 92
	v4Mismatch = 93
)

// maxUser is how long the user of a request may be, in octets; the protocol has no
// bound.
const maxUser = 255

// V4a returns the Hop to target, "host:port", by SOCKS 4a; a target that is an address
// is asked for by SOCKS 4. Of a the User is the name for ident, and may be empty; there is
// no password. IPv6 addresses are not in this protocol.
func V4a(target string, a Auth) carrier.Hop {
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		t, err := parseTarget(target)
		if err != nil {
			return carrier.Stream{}, err
		}
		if t.addr.Is6() {
			return carrier.Stream{}, refused("SOCKS 4a cannot ask for an IPv6 address", "use socks5://, or a name")
		}
		if len(a.User) > maxUser || !clean(a.User) {
			return carrier.Stream{}, refused("the user for the proxy is too long, or holds control characters", "")
		}
		d := dialogue{s, cmp.Or(a.Proxy, "the proxy"), cmp.Or(a.Timeout, answerTime)}
		var answer [8]byte // version 0, the code, port and address that mean nothing here
		if err := d.exchange(ctx, v4Request(t, a.User), answer[:1], "its answer"); err != nil {
			return carrier.Stream{}, err
		}
		if answer[0] != 0 {
			return carrier.Stream{}, d.stranger(answer[0])
		}
		if err := d.exchange(ctx, nil, answer[1:], "the rest of its answer"); err != nil {
			return carrier.Stream{}, err
		}
		switch code := answer[1]; code {
		case v4Granted:
			return s.Relayed(), nil
		case v4Rejected:
			return carrier.Stream{}, refused(d.proxy+" refused "+target+", or could not reach it", "SOCKS 4 does not say which; socks5:// would")
		case v4NoIdent:
			return carrier.Stream{}, refused(d.proxy+" wants an ident server on this machine (code 92)", "try socks5://")
		case v4Mismatch:
			return carrier.Stream{}, refused(fmt.Sprintf("%s: ident on this machine says another user than %q (code 93)", d.proxy, carrier.Printable(a.User)), "")
		default:
			return carrier.Stream{}, refused(fmt.Sprintf("%s answered with the code %d, which SOCKS 4 does not know", d.proxy, code), "")
		}
	}
}

// v4Request returns the request for t.
//
//	  1    1    2       4        variable  1     variable   1
//	+----+----+------+----------+--------+---+------------+---+
//	|  4 |  1 | port | 0.0.0.1  |  user  | 0 |    name    | 0 |   SOCKS 4A
//	|  4 |  1 | port | address  |  user  | 0 |                    SOCKS 4
//	+----+----+------+----------+--------+---+------------+---+
func v4Request(t target, user string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{4, 1}, t.port)
	if t.addr.IsValid() {
		b = append(b, t.addr.AsSlice()...)
		return append(append(b, user...), 0)
	}
	b = append(b, 0, 0, 0, 1)
	b = append(append(b, user...), 0)
	return append(append(b, t.name...), 0)
}
