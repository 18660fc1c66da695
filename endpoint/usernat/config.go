// Package usernat is a tunnel.Port whose far side is an ordinary process's
// sockets: the role SLiRP played. Packets go in at the Port; TCP connections,
// UDP datagrams and pings come out of the host's kernel as this user's own, and
// what comes back goes out of the Port as packets. It needs no privilege.
//
// The way of a packet in: WritePackets parses it (packet.go), joins fragments
// (reassembly.go), asks the policy (policy.go), and hands TCP to a netstack that
// speaks nothing else (tcp.go), UDP and ICMP echo to sockets of their own
// (sockets.go, udp.go, echo.go) and questions for the DNS addresses to the host's
// resolvers (dns.go). The way out: all of these write their packets into the
// netstack's Outlet, from which ReadPackets takes them.
// Others come in by a redirection alone: connections by inward.go, datagrams by
// visitor.go.
//
// It is honest. A SYN is answered only after the real connect succeeded; a
// refused connection is a RST, an unreachable host an ICMP error, silence is
// silence, and an echo reply is sent only for a real one. Nothing answers for an
// address that is not there. What the policy or a limit turns away is told so at
// once: ICMP administratively prohibited (RFC 1812, section 5.2.7.1; RFC 4443,
// section 3.1), or a RST. Only what is malformed or comes from an impossible
// source is dropped, and counted.
//
// It is not a hop: TTL and hop limit of UDP and ICMP echo pass through as they
// are, so a traceroute from inside shows the host's own first router first.
// Addresses in Config.DNS and Config.Host are answered by the NAT itself.
package usernat

import (
	"fmt"
	"net/netip"
)

// A Config says what a NAT does. It is not changed after New.
type Config struct {
	// DNS are the addresses at which DNS is answered on port 53, over UDP and
	// TCP: 10.0.2.3 and an IPv6 one. They answer a ping too, since a ping asks
	// whether this NAT is alive; any other port there is refused.
	DNS []netip.Addr

	// Host are aliases of the host itself, 10.0.2.2 and an IPv6 one: its
	// loopback. They are prohibited unless Allow.Host.
	Host []netip.Addr

	// MTU is the largest ordinary IP packet in octets, 128 to 65535; 0 is 1500.
	// Below 1280 there is no IPv6 (RFC 8200, section 5).
	MTU int

	// Redirect are the ways in. Without them nothing listens, and nobody outside
	// reaches the inner side.
	Redirect []Redirect

	// Resolvers returns the host's resolvers in the order to try them. It must
	// be safe for use by many goroutines. Nil: those of /etc/resolv.conf, read
	// again when it changes.
	Resolvers func() []netip.AddrPort

	// Peer are the addresses that the inner side may send from. Packets from any
	// other are dropped and counted. Empty: from every unicast address.
	Peer []netip.Prefix

	Allow  Policy
	Limits Limits

	// Refused, if not nil, is told of what is turned away, ten times a second of each
	// kind at most. It is called by the goroutine that writes packets, and by others
	// at the same time, without any lock held; it should not take long.
	Refused func(Refusal)
}

// Limits bound what one tunnel may take of the host. A zero field takes its default.
type Limits struct {
	// Flows is the most TCP connections, UDP flows and ping flows open at once,
	// together; by default 16,384. New lowers it to what RLIMIT_NOFILE leaves.
	// At the limit the oldest idle UDP or ping flow makes room for a new one;
	// a new TCP connection that finds none to displace is answered RST.
	Flows int

	// Pool, if not nil, is where those of the Flows come from that are more than
	// Own. When it is empty that is as being at the limit.
	Pool *Pool
	Own  int

	// Dials is the most TCP connections being dialled at once; by default 1,024.
	// At the limit the dial that has waited longest gives up its place when it
	// has waited over a second, so that dead destinations do not starve others.
	Dials int

	// Buffered is the most octets of TCP payload held for all connections
	// together, both directions; by default 24 MiB. A direction that stands
	// still counts with its whole buffer. Near the limit buffers stop growing;
	// over it new connections are answered RST, and those that have stood still
	// for ten seconds are reset, the oldest first.
	Buffered int
}

// Stats says what a NAT holds and what it turned away. Counts are since New.
type Stats struct {
	TCP, UDP, Echo, Dialing, Queries int // what is open now
	Buffered                         int // octets of TCP payload held now, as last counted

	OpenedTCP, OpenedUDP, OpenedEcho, OpenedQueries uint64
	RedirectedTCP, RedirectedUDP                    uint64 // what came in by Config.Redirect

	RefusedPolicy uint64 // prohibited by Policy
	RefusedFlows  uint64 // at Limits.Flows, or out of descriptors
	RefusedDials  uint64 // at Limits.Dials
	Evicted       uint64 // idle UDP and ping flows that made room for others
	RefusedMemory uint64 // connections refused or reset at Limits.Buffered
	RefusedEcho   uint64 // pings refused because Ping is PingNone

	DroppedSource    uint64 // packets from a source that cannot be, or is not in Config.Peer
	DroppedMalformed uint64 // packets that do not parse, or with a wrong checksum
	DroppedFragments uint64 // fragments that overlapped, never became whole or found no room
	DroppedOther     uint64 // protocols other than TCP, UDP and ICMP echo, refused or ignored
	DroppedFull      uint64 // answers of ours that found the outlet full, datagrams a socket had no room for

	Ping Ping // how pings leave the host
}

// Ping says which kind of socket carries pings.
type Ping uint8

// The kinds of ping.
const (
	PingUnknown Ping = iota // neither was tried with success, nor refused
	PingSocket              // an unprivileged ping socket (net.ipv4.ping_group_range)
	PingRaw                 // a raw socket
	PingNone                // neither is permitted: pings are answered prohibited
)

// String returns the kind in words.
func (p Ping) String() string {
	switch p {
	case PingSocket:
		return "ping socket"
	case PingRaw:
		return "raw socket"
	case PingNone:
		return "not permitted"
	}
	return "unknown"
}

// Defaults of Limits and Config.
const (
	defaultMTU      = 1500
	minMTU          = 128  // PPP's least MRU as pppd has it; IPv4 alone would do with 68 (RFC 791, section 3.2)
	minMTU6         = 1280 // RFC 8200, section 5
	defaultFlows    = 16384
	defaultDials    = 1024
	defaultBuffered = 24 << 20
)

func checkMTU(mtu int) error {
	if mtu < minMTU || mtu > 65535 {
		return fmt.Errorf("usernat: MTU %d: not within %d to 65535", mtu, minMTU)
	}
	return nil
}

// complete returns c with its defaults filled in, or says what is wrong with it.
func (c Config) complete() (Config, error) {
	if c.MTU == 0 {
		c.MTU = defaultMTU
	}
	if err := checkMTU(c.MTU); err != nil {
		return c, err
	}
	for _, a := range append(append([]netip.Addr(nil), c.DNS...), c.Host...) {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || !validSource(a) {
			return c, fmt.Errorf("usernat: own address %v: not a unicast address", a)
		}
	}
	for _, p := range c.Peer {
		if !p.IsValid() {
			return c, fmt.Errorf("usernat: peer: prefix %v: not valid", p)
		}
	}
	for _, rules := range [][]Rule{c.Allow.Open, c.Allow.Only, c.Allow.Deny} {
		for _, r := range rules {
			if err := r.check(); err != nil {
				return c, err
			}
		}
	}
	for _, r := range c.Redirect {
		if err := r.check(&c); err != nil {
			return c, err
		}
	}
	if c.Limits.Flows < 0 || c.Limits.Own < 0 || c.Limits.Dials < 0 || c.Limits.Buffered < 0 {
		return c, fmt.Errorf("usernat: limits %+v: negative", c.Limits)
	}
	if c.Limits.Flows == 0 {
		c.Limits.Flows = defaultFlows
	}
	if c.Limits.Dials == 0 {
		c.Limits.Dials = defaultDials
	}
	if c.Limits.Buffered == 0 {
		c.Limits.Buffered = defaultBuffered
	}
	return c, nil
}
