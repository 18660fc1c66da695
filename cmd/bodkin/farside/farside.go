// Package farside is what the far side of a tunnel is made of, whether it is one far
// half that a login has started or one of the many that a server holds: the addresses it
// gives, the userspace NAT behind them, and the measuring of a line that leads to it.
package farside

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/cmd/bodkin/addresses"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/native"
)

// MTU is what a userspace NAT takes, in octets: it ends TCP itself, so the path beyond
// it does not matter. Offloads carry many packets at once over a quick way however large
// one is; over a way of 20 Mbit/s and 50 ms, of which a window of two of 65,535 octets
// is more than there is room for, TCP has more than a dozen to count in, and a ping does
// not wait for one longer than 4 ms. Measured beside 65,535: over that way 18.0 Mbit/s
// down instead of 15.3, over a quick one as many.
const MTU = 9000

// Offer is the hello of a side that gives addresses out of the networks, one of each
// family at most; with none, out of the usual ones.
func Offer(software string, networks []netip.Prefix) (native.Hello, error) {
	mine := native.Hello{Software: software}
	if len(networks) == 0 {
		networks = addresses.Networks
	}
	for _, n := range networks {
		if n.Addr().BitLen()-n.Bits() < 5 {
			return mine, fmt.Errorf("the network %v has no room for the tunnel's addresses", n)
		}
		mine.Yours = append(mine.Yours, netip.PrefixFrom(addresses.In(n, addresses.Peer), n.Bits()))
		mine.Mine = append(mine.Mine, addresses.In(n, addresses.Host))
	}
	return mine, nil
}

// Resolvers are where a NAT answers DNS in the networks.
func Resolvers(networks []netip.Prefix) []netip.Addr {
	var list []netip.Addr
	for _, p := range networks {
		list = append(list, addresses.In(p, addresses.Resolver))
	}
	return list
}

// NAT makes the userspace NAT that a peer gets whose hello was answered with mine so
// far, by Offer, and completes mine. grant is what of the peer's asks is opened beside
// c.Allow. c's addresses and MTU are set here.
func NAT(c usernat.Config, mine, peer native.Hello, grant native.Asks) (native.Hello, *usernat.NAT, error) {
	mine.Emulator, mine.DNS = native.EmulatorNAT, Resolvers(mine.Yours)
	c.MTU, c.DNS, c.Host = MTU, mine.DNS, mine.Mine
	granted := peer.Asks & grant
	c.Allow.Host = c.Allow.Host || granted&native.AskHost != 0
	c.Allow.LinkLocal = c.Allow.LinkLocal || granted&native.AskLinkLocal != 0
	if granted&native.AskWaysIn != 0 {
		c.Redirect = WaysIn(peer.WaysIn, mine.Yours)
	}
	if peer.Asks != granted {
		mine.Notes = append(mine.Notes, "the far side's own settings decide what is open, and do not open what was asked for")
	}
	nat, err := usernat.New(c)
	if err != nil {
		return mine, nil, err
	}
	mine.Notes = append(mine.Notes, nat.Notes()...)
	return mine, nat, nil
}

// WaysIn are a NAT's redirections for the ways in that its peer asks for, who has the
// addresses given.
func WaysIn(asked []native.WayIn, given []netip.Prefix) []usernat.Redirect {
	var list []usernat.Redirect
	for _, w := range asked {
		r := usernat.Redirect{Network: "tcp", Listen: w.Listen, To: w.To}
		if w.UDP {
			r.Network = "udp"
		}
		if w.To.Addr().IsUnspecified() {
			for _, p := range given {
				if p.Addr().Is4() == w.To.Addr().Is4() {
					r.To = netip.AddrPortFrom(p.Addr(), w.To.Port())
				}
			}
		}
		list = append(list, r)
	}
	return list
}

// Measure measures the line together with the near half, and returns what goes over it
// into octets that it carries.
func Measure(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
	s, m, err := line.Accept(ctx, s, line.Options{})
	if err != nil {
		return s, err
	}
	s.Rate = Slow(m.Rate)
	return s, nil
}

// slowRate is below what, in octets per second, waiting must be longer than is usual.
const slowRate = 8 << 10

// Slow returns a rate, in octets per second, if it is that of a slow line, else 0.
func Slow(rate float64) float64 {
	if rate < slowRate {
		return rate
	}
	return 0
}
