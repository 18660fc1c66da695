package socks

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// Numbers of RFC 1928, sections 3 to 5, and RFC 1929, section 2.
const (
	version5 = 5

	methodNone     = 0x00
	methodPassword = 0x02
	methodRefused  = 0xff

	passwordVersion = 1

	connect = 1

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// v5Replies is RFC 1928, section 6. What is for good would end the same way again.
var v5Replies = map[byte]struct {
	words   string
	forGood bool
}{
	1: {"general failure", false},
	2: {"not allowed by its rules", true},
	3: {"network unreachable", false},
	4: {"host unreachable", false},
	5: {"connection refused", false},
	6: {"timed out (TTL expired)", false},
	7: {"it does not know CONNECT", true},
	8: {"it does not know this kind of address", true},
}

// Auth says as whom to use a proxy of version 5.
type Auth struct {
	// User is up to 255 octets; empty: without. It crosses in clear text, and so
	// does the password (RFC 1929, section 3).
	User string

	// Secret returns User's password. It is asked when the proxy first wants one,
	// and again only after the proxy refused that one. It may be nil.
	Secret func(ctx context.Context, question string) (string, error)

	// Proxy is the proxy's "host:port": whose password it is.
	Proxy string

	// Timeout is how long each answer may take; 0: 30 s.
	Timeout time.Duration
}

// V5 returns the Hop to target, "host:port", by SOCKS 5. It may be called many times,
// also at once.
func V5(target string, a Auth) carrier.Hop {
	p := &v5{Auth: a, target: target, asking: make(chan struct{}, 1)}
	return p.hop
}

// v5 is what the calls of one Hop share.
type v5 struct {
	Auth
	target string

	asking   chan struct{} // holds one value while one call uses the fields below
	asked    bool
	password string // valid if asked
}

func (p *v5) hop(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
	t, err := parseTarget(p.target)
	if err != nil {
		return carrier.Stream{}, err
	}
	if len(p.User) > maxUser || !clean(p.User) {
		return carrier.Stream{}, refused("the user for the proxy is too long, or holds control characters", "")
	}
	d := &dialogue{s, cmp.Or(p.Proxy, "the proxy"), cmp.Or(p.Timeout, answerTime)}
	if err := p.authenticate(ctx, d); err != nil {
		return carrier.Stream{}, err
	}
	if err := connectBy(ctx, d, t, p.target); err != nil {
		return carrier.Stream{}, err
	}
	return s.Relayed(), nil
}

// authenticate agrees on a method and goes through with it.
func (p *v5) authenticate(ctx context.Context, d *dialogue) error {
	greeting := []byte{version5, 1, methodNone}
	if p.User != "" {
		greeting = []byte{version5, 2, methodNone, methodPassword}
	}
	var answer [2]byte
	if err := d.exchange(ctx, greeting, answer[:1], "its choice of a method"); err != nil {
		return err
	}
	if answer[0] != version5 {
		return d.stranger(answer[0])
	}
	if err := d.exchange(ctx, nil, answer[1:], "its choice of a method"); err != nil {
		return err
	}
	switch method := answer[1]; {
	case method == methodNone:
		return nil
	case method == methodPassword && p.User != "":
		return p.logIn(ctx, d)
	case method == methodRefused && p.User == "":
		return refused(d.proxy+" wants a user and a password", "write the user in the proxy's URL: socks5://user@host:port")
	case method == methodRefused:
		return refused(d.proxy+" takes neither user and password nor none", "other methods, such as GSSAPI, are not supported")
	default:
		return refused(fmt.Sprintf("%s chose the method 0x%02x, which was not offered", d.proxy, method), "")
	}
}

// logIn is RFC 1929.
func (p *v5) logIn(ctx context.Context, d *dialogue) error {
	password, err := p.secret(ctx, d.proxy)
	if err != nil {
		return err
	}
	message := append([]byte{passwordVersion, byte(len(p.User))}, p.User...)
	message = append(append(message, byte(len(password))), password...)
	var answer [2]byte // the version, which some proxies get wrong; 0 for success
	if err := d.exchange(ctx, message, answer[:], "its word on the password"); err != nil {
		return err
	}
	if answer[1] != 0 {
		p.forget(ctx)
		return refused(fmt.Sprintf("%s: wrong user or password for %q", d.proxy, carrier.Printable(p.User)), "check user and password")
	}
	return nil
}

// secret returns the password, asking for it if that was not done yet.
func (p *v5) secret(ctx context.Context, proxy string) (string, error) {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return "", fmt.Errorf("socks: %s: the password: %w", proxy, context.Cause(ctx))
	}
	if p.asked {
		return p.password, nil
	}
	if p.Secret == nil {
		return "", refused(proxy+" wants a password, and there is nobody to ask for it", "")
	}
	password, err := p.Secret(ctx, fmt.Sprintf("Password of %s for the proxy %s: ", carrier.Printable(p.User), proxy))
	if err != nil {
		return "", fmt.Errorf("socks: %s: the password: %w", proxy, err)
	}
	if len(password) == 0 || len(password) > 255 {
		return "", refused("a password for SOCKS 5 has 1 to 255 octets", "")
	}
	p.password, p.asked = password, true
	return password, nil
}

// forget forgets a password that was refused.
func (p *v5) forget(ctx context.Context) {
	select {
	case p.asking <- struct{}{}:
		p.password, p.asked = "", false
		<-p.asking
	case <-ctx.Done(): // somebody is being asked for a new one
	}
}

// connectBy asks for the connection to t, which the user knows as name.
func connectBy(ctx context.Context, d *dialogue, t target, name string) error {
	const what = "its word on the connection"
	var head [4]byte // version, reply, reserved, type of the address
	if err := d.exchange(ctx, v5Request(t), head[:2], what); err != nil {
		return err
	}
	if head[0] != version5 {
		return d.stranger(head[0])
	}
	// What a proxy sends after a refusal, if anything, is nobody's.
	if code := head[1]; code != 0 {
		reply, known := v5Replies[code]
		if !known {
			reply.words = "a failure that SOCKS 5 does not know"
		}
		text := fmt.Sprintf("%s did not connect to %s: %s (%d)", d.proxy, name, reply.words, code)
		if reply.forGood {
			return refused(text, "")
		}
		return &carrier.UnreachedError{Layer: "proxy", Reason: text, Hint: "check name and port of " + name + ": the proxy looks it up and connects, not this machine"}
	}
	if err := d.exchange(ctx, nil, head[2:], what); err != nil {
		return err
	}
	left := 0 // octets of address and port, which mean nothing here
	switch head[3] {
	case typeIPv4:
		left = 4 + 2
	case typeIPv6:
		left = 16 + 2
	case typeName:
		var length [1]byte
		if err := d.exchange(ctx, nil, length[:], what); err != nil {
			return err
		}
		left = int(length[0]) + 2
	default:
		return refused(fmt.Sprintf("%s answered with an address of type %d, whose length nobody knows", d.proxy, head[3]), "")
	}
	return d.exchange(ctx, nil, make([]byte, left), what)
}

// v5Request returns the request for t (RFC 1928, section 4).
//
//	  1    1    1    1     variable    2
//	+----+----+----+-----+----------+------+
//	|  5 |  1 |  0 | typ |  address | port |
//	+----+----+----+-----+----------+------+
func v5Request(t target) []byte {
	b := []byte{version5, connect, 0}
	switch {
	case t.addr.Is4():
		b = append(append(b, typeIPv4), t.addr.AsSlice()...)
	case t.addr.Is6():
		b = append(append(b, typeIPv6), t.addr.AsSlice()...)
	default:
		b = append(append(b, typeName, byte(len(t.name))), t.name...)
	}
	return binary.BigEndian.AppendUint16(b, t.port)
}

// clean reports whether text has no control character.
func clean(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
