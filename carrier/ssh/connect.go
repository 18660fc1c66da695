package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/bodkin-net/bodkin/carrier"
)

// errLeaveToSSH says that the name is not one that we can resolve; ssh may know
// more ways (the C library's: mDNS, NIS).
var errLeaveToSSH = errors.New("ssh: a name for ssh to resolve")

// connect connects to the host's addresses in turn, until one answers.
func (c *Config) connect(ctx context.Context, s settings) (handed, netip.AddrPort, error) {
	host := s.get("hostname")
	addresses, err := c.lookup(ctx, s.network(), host)
	if err != nil {
		return handed{}, netip.AddrPort{}, err
	}
	network := strings.Replace(s.network(), "ip", "tcp", 1)
	var failed []string
	var errs []error
	for _, address := range addresses {
		to := netip.AddrPortFrom(address.Unmap(), s.port())
		attempt, cancel := context.WithTimeout(ctx, s.connectTimeout())
		stream, err := c.Dial(attempt, network, to.String())
		cancel()
		if err == nil {
			h, err := hand(stream)
			return h, to, err
		}
		if ctx.Err() != nil {
			return handed{}, netip.AddrPort{}, fmt.Errorf("ssh: connecting to %s: %w", to, context.Cause(ctx))
		}
		kind, _ := connectKind(err)
		text := string(kind)
		if kind == Other {
			text = err.Error()
		}
		failed = append(failed, fmt.Sprintf("%s: %s", to, text))
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	kind, hint := connectKind(err)
	return handed{}, netip.AddrPort{}, &Error{Kind: kind, Reason: host + ": " + strings.Join(failed, "; "), Hint: hint, Err: err}
}

// lookup resolves the host's name.
func (c *Config) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address}, nil
	}
	lookup := c.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	addresses, err := lookup(ctx, network, host)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ssh: looking up %s: %w", host, context.Cause(ctx))
	}
	if err != nil || len(addresses) == 0 {
		return nil, errLeaveToSSH
	}
	return addresses, nil
}

// connectKind says which kind of failure err is, and what to try.
func connectKind(err error) (Kind, string) {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnectionRefused, "nothing listens there: check host and port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return NoRoute, "check that this machine is online, and the firewall between"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut, "nobody answers: check host and port, and the firewall between"
	}
	return Other, ""
}

// reach opens the connection to sshd by Config.Reach, and makes a socket of it.
func (c *Config) reach(ctx context.Context, s settings) (handed, error) {
	stream, err := c.Reach(ctx, net.JoinHostPort(s.get("hostname"), strconv.Itoa(int(s.port()))))
	if err != nil {
		return handed{}, err
	}
	if !stream.Unsafe.Empty() {
		stream.Close()
		return handed{}, &carrier.RefusedError{
			Layer: "line", Reason: "the way there does not carry every octet as it is, which ssh needs",
			Hint: "let the far half of bodkin wait there, and end the way in bodkin://host:port",
		}
	}
	return hand(stream)
}
