// Package socks is a tunnel.Port whose host side is a proxy on loopback: programs
// speak SOCKS 5 (RFC 1928, RFC 1929), SOCKS 4a or HTTP (RFC 9110) to it, and what
// they ask for comes out of the Port as packets. It needs no privilege and changes
// nothing of the machine.
//
// One port serves all three, told apart by their first octet (serve.go). A
// connection becomes one of the TCP/IP stack in the process (netstack), spliced to
// the program's socket (dial.go); a UDP association becomes a UDP socket of the stack
// (udp.go); a name is looked up through the tunnel (lookup.go). What cannot be
// reached is answered as what it is: refused, unreachable, prohibited, too late, no
// such name.
//
// There is no ping: neither protocol has one, and a program that sends its own needs
// a kernel interface or a network namespace.
//
// Nothing comes in: the stack listens nowhere, and a UDP association takes datagrams
// from those it has written to alone.
package socks

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// A Config says what a Proxy does. It is not changed after New.
type Config struct {
	// Listen are the TCP addresses of the proxy; a port of 0 is any that is free.
	// They must be loopback addresses unless Public. Empty without Listeners and
	// Forwards: 127.0.0.1:1080.
	Listen []netip.AddrPort

	// Listeners are sockets to listen at besides, handed over: Close closes them.
	Listeners []*net.TCPListener

	// Public permits addresses other than loopback, where everybody who can reach
	// this machine can use the tunnel.
	Public bool

	// Local are our addresses inside the tunnel: the first of each IP version is
	// used, and a version without one is not spoken.
	Local []netip.Prefix

	// DNS are the resolvers that answer through the tunnel. Without any, names
	// resolve only where Direct, as this machine does.
	DNS []netip.Addr

	// MTU is the largest ordinary packet in octets, 128 to 65535; 0 is 1500. Below
	// 1280 there is no IPv6 (RFC 8200, section 5).
	MTU int

	// Routes are the destinations that go through the tunnel; empty: all. Exclude
	// takes away from them. Any other is refused, or, if Direct, connected to from
	// this machine as if there were no proxy.
	Routes, Exclude []netip.Prefix
	Direct          bool

	// User and Password, if not empty, must be given by programs (RFC 1929; Basic,
	// RFC 7617). SOCKS 4 knows none and is refused then. At most 255 octets each.
	User, Password string

	// Forwards are local ports that lead to one destination each.
	Forwards []Forward

	Limits Limits
}

// A Forward is a port of this machine that leads through the tunnel.
type Forward struct {
	Network string         // "tcp" or "udp"
	Listen  netip.AddrPort // as Config.Listen
	To      string         // "host:port"; a name is looked up through the tunnel for each connection
}

// String names f: "tcp 127.0.0.1:8080 to intranet:80".
func (f Forward) String() string { return fmt.Sprintf("%s %v to %s", f.Network, f.Listen, f.To) }

// Limits bound what the proxy takes of this machine. A zero field takes its default.
type Limits struct {
	// Connections is the most connections of programs at once, whatever they speak,
	// those of Forwards among them; by default 1,024. One more is reset.
	Connections int

	// Associations is the most UDP associations at once, and for each Forward of
	// UDP the most programs told apart; by default 128. Each holds three buffers of
	// 64 KiB.
	Associations int

	// Buffered is the most octets of TCP payload held for all connections together;
	// by default 24 MiB. At the limit new connections are refused, and those that
	// have stood still for ten seconds are reset, the oldest first.
	Buffered int

	// Handshake is how long a program may take to say what it wants; by default 10 s.
	Handshake time.Duration

	// Dial is how long a connection may take to be made; by default 40 s, a little
	// more than the far side's own patience, so that it is the one that says why not.
	Dial time.Duration

	// Idle is how long a UDP association without a datagram lasts, and a silent
	// connection of HTTP between two requests; by default 5 minutes.
	Idle time.Duration
}

// Stats says what a Proxy holds and what it did. Counts are since New.
type Stats struct {
	Connections, Associations int // of programs, open now
	Buffered                  int // octets of TCP payload held now, as last counted

	SOCKS5, SOCKS4, HTTP, UDP, Forwarded uint64 // requests taken: connections, associations, HTTP requests
	Direct                               uint64 // of them, connections past the tunnel

	RefusedLimit  uint64 // at Limits.Connections, Associations or Buffered
	RefusedPolicy uint64 // destinations outside Routes or that cannot be, passwords
	Malformed     uint64 // handshakes that are none, or did not end in time
	Failed        uint64 // dials that failed, whatever the reason

	DroppedPackets   uint64 // from the tunnel: malformed, or not for us
	DroppedDatagrams uint64 // of associations: fragments, forbidden or unknown destinations, strangers
}

const (
	defaultPort = 1080 // RFC 1928, section 3
	defaultMTU  = 1500
	minMTU      = 128
	minMTU6     = 1280 // RFC 8200, section 5

	defaultConnections  = 1024
	defaultAssociations = 128
	defaultBuffered     = 24 << 20
	defaultHandshake    = 10 * time.Second
	defaultDial         = 40 * time.Second
	defaultIdle         = 5 * time.Minute
)

// complete returns c with its defaults filled in, or says what is wrong with it.
func (c Config) complete() (Config, error) {
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if c.MTU < minMTU || c.MTU > 65535 {
		return c, fmt.Errorf("socks: MTU %d: not within %d to 65535", c.MTU, minMTU)
	}
	if len(c.Listen)+len(c.Listeners)+len(c.Forwards) == 0 {
		c.Listen = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), defaultPort)}
	}
	for _, a := range c.Listen {
		if err := c.checkListen(a); err != nil {
			return c, err
		}
	}
	for _, f := range c.Forwards {
		if err := c.checkListen(f.Listen); err != nil {
			return c, err
		}
		if f.Network != "tcp" && f.Network != "udp" {
			return c, fmt.Errorf("socks: forward %v: neither tcp nor udp", f)
		}
		if _, _, err := splitHostPort(f.To); err != nil {
			return c, fmt.Errorf("socks: forward %v: %w", f, err)
		}
	}
	for _, p := range c.Local {
		if a := p.Addr(); !a.IsValid() || a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast() {
			return c, fmt.Errorf("socks: address %v inside the tunnel: not a unicast address", a)
		}
	}
	if len(c.Local) == 0 {
		return c, errors.New("socks: there is no address inside the tunnel")
	}
	if len(c.User) > 255 || len(c.Password) > 255 || strings.Contains(c.User, ":") {
		return c, errors.New("socks: user and password: over 255 octets, or a colon in the user")
	}
	if c.User == "" && c.Password != "" {
		return c, errors.New("socks: a password without a user")
	}
	l := &c.Limits
	if min(l.Connections, l.Associations, l.Buffered) < 0 || min(l.Handshake, l.Dial, l.Idle) < 0 {
		return c, fmt.Errorf("socks: limits %+v: negative", *l)
	}
	for _, d := range []struct {
		field *int
		by    int
	}{{&l.Connections, defaultConnections}, {&l.Associations, defaultAssociations}, {&l.Buffered, defaultBuffered}} {
		if *d.field == 0 {
			*d.field = d.by
		}
	}
	for _, d := range []struct {
		field *time.Duration
		by    time.Duration
	}{{&l.Handshake, defaultHandshake}, {&l.Dial, defaultDial}, {&l.Idle, defaultIdle}} {
		if *d.field == 0 {
			*d.field = d.by
		}
	}
	return c, nil
}

func (c *Config) checkListen(a netip.AddrPort) error {
	switch {
	case !a.Addr().IsValid() || a.Addr().Is4In6():
		return fmt.Errorf("socks: listening at %v: not an address", a)
	case !c.Public && !a.Addr().IsLoopback():
		return fmt.Errorf("socks: listening at %v: not a loopback address, and who can reach it could use the tunnel", a)
	}
	return nil
}

// local returns our address of a's IP version, not valid if there is none.
func (c *Config) local(v6 bool) netip.Addr {
	if v6 && c.MTU < minMTU6 {
		return netip.Addr{}
	}
	for _, p := range c.Local {
		if p.Addr().Is6() == v6 {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// A way is how a destination is reached.
type way uint8

const (
	nowhere way = iota // not at all
	through            // through the tunnel
	direct             // from this machine
)

// wayTo returns the way to a. What is no unicast address, or this machine's own
// loopback, has none: a program that wants it needs no proxy, and whoever else can
// use this one shall not reach it.
func (c *Config) wayTo(a netip.Addr) way {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6() || a.Zone() != "" {
		return nowhere
	}
	inside := len(c.Routes) == 0
	for _, p := range c.Routes {
		inside = inside || p.Contains(a)
	}
	for _, p := range c.Exclude {
		inside = inside && !p.Contains(a)
	}
	switch {
	case inside:
		return through
	case c.Direct:
		return direct
	}
	return nowhere
}
