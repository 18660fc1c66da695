// Package socks goes through a SOCKS proxy: version 5, as described in RFC 1928 and,
// for user and password, RFC 1929; and version 4a, as described in "SOCKS 4A: A
// Simple Extension to SOCKS 4 Protocol" (Y.-D. Lee).
//
// It asks the proxy, which a Stream reaches already, for one TCP connection. Every
// message is read to its last octet and no further, so that the Stream's next octet
// is the target's first. Names are resolved by the proxy.
//
// Its Hops wait 30 s at most for each answer, or as Auth says. Their errors: *carrier.RefusedError of
// layer "proxy" where the proxy or the settings say no, *carrier.HangUpError where
// the proxy ends the connection in the middle, *carrier.SilenceError where no answer
// comes; *carrier.UnreachedError where the proxy could not reach the target.
package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// answerTime is how long the proxy may take for one answer, if Auth does not say:
	// to resolve a name and to connect, or to ask its own server for passwords.
	answerTime = 30 * time.Second

	// octetTime is what each octet sent adds to that. A line of 300 bit/s carries
	// 30 a second.
	octetTime = time.Second / 15
)

// errSilent is why a wait ended.
var errSilent = errors.New("no answer in time")

// A target is what the proxy is asked for.
type target struct {
	name string     // if addr is not valid: of the DNS, 1 to 253 octets
	addr netip.Addr // IPv4 or IPv6 without a zone
	port uint16     // not 0
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

// parseTarget parses "host:port"; an IPv6 address stands in brackets.
func parseTarget(text string) (target, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return target{}, refused(fmt.Sprintf("the target %q is not host:port", carrier.Printable(text)), "")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, refused(fmt.Sprintf("the target %q has no port from 1 to 65535", carrier.Printable(text)), "")
	}
	t := target{port: uint16(n)}
	if t.addr, err = netip.ParseAddr(host); err == nil {
		if t.addr = t.addr.Unmap(); t.addr.Zone() != "" {
			return target{}, refused("the target's address has a zone, which means nothing to a proxy", "")
		}
		return t, nil
	}
	// 253: RFC 1035, section 2.3.4.
	foreign := func(r rune) bool { return !strings.ContainsRune(nameLetters, r) }
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, foreign) {
		return target{}, refused(fmt.Sprintf("the target %q is neither an address nor a name of the DNS", carrier.Printable(text)), "")
	}
	t.name = host
	return t, nil
}

func refused(reason, hint string) error {
	return &carrier.RefusedError{Layer: "proxy", Reason: reason, Hint: hint}
}

// A dialogue is what is said with one proxy.
type dialogue struct {
	s       carrier.Stream
	proxy   string        // for errors: "proxy:1080", or "the proxy"
	timeout time.Duration // for each answer
}

// exchange sends a message, if there is one, and reads an answer of len(answer) octets.
// what names the answer. Once ctx or the time ends it closes the Stream.
func (d *dialogue) exchange(ctx context.Context, message, answer []byte, what string) error {
	limit := d.timeout + time.Duration(len(message))*octetTime
	waiting, stop := context.WithTimeoutCause(ctx, limit, errSilent)
	defer stop()
	closed := make(chan struct{})
	unbind := context.AfterFunc(waiting, func() {
		defer close(closed)
		d.s.Close()
	})
	var writing error
	if len(message) > 0 {
		_, writing = d.s.Write(message)
	}
	n, err := io.ReadFull(d.s, answer) // also what was answered before all was written
	if !unbind() {
		<-closed
		return d.unanswered(context.Cause(waiting), what, limit)
	}
	if err == nil {
		return nil
	}
	if writing != nil {
		err = writing
	}
	return &carrier.HangUpError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("%s closed the connection in place of %s (%d of %d octets came)", d.proxy, what, n, len(answer)),
		Hint:   d.hint(),
		Err:    err,
	}
}

// hint is what to look at when the answer is missing: ssh -D has no other word for a
// target that it cannot reach.
func (d *dialogue) hint() string {
	return "check that " + d.proxy + " is a proxy for this version of SOCKS, and that it can reach the target"
}

// unanswered returns the error for a wait that ended by cause.
func (d *dialogue) unanswered(cause error, what string, limit time.Duration) error {
	if !errors.Is(cause, errSilent) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("socks: %s: waiting for %s: %w", d.proxy, what, cause)
	}
	within := "in time"
	if errors.Is(cause, errSilent) {
		within = "in " + limit.Round(time.Second).String()
	}
	return &carrier.SilenceError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("%s did not send %s %s", d.proxy, what, within),
		Hint:   d.hint(),
	}
}

// stranger returns the error for an answer that begins with b, which no SOCKS proxy
// of this version sends.
func (d *dialogue) stranger(b byte) error {
	hint := "check address and port of the proxy"
	switch b {
	case 'H', '<':
		hint = "it seems to be a web proxy: write http:// for it"
	case 0:
		hint = "it seems to speak SOCKS 4: write socks4a:// for it"
	case 5:
		hint = "it seems to speak SOCKS 5: write socks5:// for it"
	case 0x15, 0x16:
		hint = "it seems to speak TLS"
	}
	return refused(fmt.Sprintf("%s is no SOCKS proxy of this version: its answer begins with 0x%02x", d.proxy, b), hint)
}
