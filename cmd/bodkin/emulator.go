package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/bodkin-net/bodkin/cmd/bodkin/addresses"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/tunnel"
)

// This file has the emulators of the near side that change nothing of the machine
// themselves: the userspace NAT, and other people's programs.

// pppMTU is what a PPP peer takes unless it says otherwise (RFC 1661, section 6.1).
const pppMTU = 1500

// hello is what the far half is told of this side.
func (n *near) hello() native.Hello {
	h := native.Hello{
		Software: software(),
		Emulator: native.EmulatorKernel,
		Networks: n.networks,
		Receives: tunnel.Caps{
			MTU:      farside.MTU,
			Offloads: tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO,
		},
	}
	switch {
	case !n.config.Near.Reaches():
		h.Emulator = native.EmulatorNAT
		h.Yours, h.Mine, h.DNS, h.Networks = n.mine.Local, n.mine.Peer, n.mine.DNS, nil
		h.Routes = n.config.Routes
	case n.config.Near.Kind == config.Socks:
		h.Emulator = native.EmulatorProxy
	case n.config.Near.Foreign():
		// One address of IPv4 is all that IPCP can hand on.
		h.Networks = h.Networks[:1]
	}
	if n.config.Target.Scheme == config.Served {
		h.Networks = nil // the client's own NAT has said already what it gives
	}
	if n.config.Near.Foreign() {
		h.Receives.MTU = pppMTU
	}
	if n.stream.Rate > 0 { // no packet keeps a slow line to itself for long
		h.Receives.MTU = slowMTU
	}
	if n.config.Far.Kind == config.Tun {
		h.Asks |= native.AskKernel
		if n.config.Near.Reaches() {
			h.Routes = n.config.Back
		}
		if n.config.ForwardFar.Forward {
			h.Asks |= native.AskForward
			h.Wants = n.config.Routes
		}
		if n.config.ForwardFar.Masquerade {
			h.Asks |= native.AskMasquerade
		}
	}
	if n.config.Far.Kind == config.Socks {
		h.Asks |= native.AskProxy
		h.Proxy = n.config.Far.Listen
	}
	if n.config.Far.Kind == config.NAT {
		if n.config.AllowHost {
			h.Asks |= native.AskHost
		}
		if n.config.AllowLink {
			h.Asks |= native.AskLinkLocal
		}
		if h.WaysIn = n.waysIn(); len(h.WaysIn) > 0 {
			h.Asks |= native.AskWaysIn
		}
	}
	return h
}

// waysEnd is where a way in leads, for people.
func waysEnd(w config.WayIn) string {
	if w.Host == "" {
		return fmt.Sprintf("port %d", w.Port)
	}
	return w.To().String()
}

// waysIn are the ways past the NAT of whichever side has one.
func (n *near) waysIn() []native.WayIn {
	var list []native.WayIn
	for _, w := range n.config.WaysIn {
		list = append(list, native.WayIn{UDP: w.UDP, Listen: w.Listen, To: w.To()})
	}
	return list
}

// makeNAT makes this side's userspace NAT: the far side's programs connect out of
// here, and nobody here is reached from there but as the policy says.
func (n *near) makeNAT(context.Context) error {
	nat, err := usernat.New(usernat.Config{
		MTU: n.agreed.MTU, DNS: n.mine.DNS, Host: n.mine.Peer,
		Redirect: farside.WaysIn(n.waysIn(), n.mine.Local),
		Allow:    usernat.Policy{Host: n.config.AllowHost, LinkLocal: n.config.AllowLink},
	})
	if err != nil {
		return report.At(report.Device, err, "")
	}
	n.port = nat
	n.voice.done(report.Device, "a userspace NAT here, for %s there", joinText(n.agreed.Peer))
	for _, w := range n.config.WaysIn {
		n.voice.note("%v here leads to %v there", w.Listen, waysEnd(w))
	}
	for _, text := range nat.Notes() {
		n.voice.note("%s", text)
	}
	return nil
}

// openSLiRP runs slirp here, which gives the far side its address.
func (n *near) openSLiRP(ctx context.Context) error {
	p, err := n.startNear(ctx, func(v4 *ppp.IPv4) {
		v4.AcceptLocal, v4.AcceptRemote, v4.AskDNS = true, true, true
		v4.Remote = addresses.In(addresses.Networks[0], addresses.Host)
	})
	if err != nil {
		return err
	}
	a := p.Agreed()
	// Its net is a /24, whatever address it gives out of it.
	given := netip.PrefixFrom(a.Local[0].Addr(), 24)
	n.port, n.mine = p, tunnel.Agreed{Local: []netip.Prefix{given}, Peer: a.Peer, DNS: []netip.Addr{slirpDNS}}
	return nil
}

// openPPPD runs pppd here, or a program like it, and gives it the address that the
// far side gave.
func (n *near) openPPPD(ctx context.Context) error {
	p, err := n.startNear(ctx, func(v4 *ppp.IPv4) {
		v4.Local, v4.DNS = addresses.In(n.networks[0], addresses.Host), resolversFor(n.agreed.DNS)
		if len(n.agreed.Peer) > 0 {
			v4.Local = n.agreed.Peer[0]
		}
		v4.Remote = n.agreed.Local[0].Addr()
		v4.AcceptLocal = true
	})
	if err != nil {
		return err
	}
	n.port = p
	return nil
}

// resolversFor are those of the resolvers that IPCP can name: two of IPv4 (RFC
// 1877, section 1).
func resolversFor(all []netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, a := range all {
		if a.Is4() && len(list) < 2 {
			list = append(list, a)
		}
	}
	return list
}
