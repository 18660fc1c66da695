package standin

import (
	"encoding/binary"
	"net/netip"

	"github.com/bodkin-net/bodkin/cmd/bodkin/addresses"
	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// pppLink says what is wanted of the link. What fits the machine only is left out:
// secrets, and functions that are told things.
func pppLink(o *pppd.Options) ppp.Config {
	c := ppp.Config{
		LCP: ppp.LCP{
			MRU: o.LCP.MRU, MTU: o.LCP.MTU, ACCM: hdlc.ACCM(o.LCP.ACCM), NoACCM: o.LCP.NoACCM, ReceiveAll: o.LCP.ReceiveAll,
			NoACFC: o.LCP.NoACFC, NoPFC: o.LCP.NoPFC, NoMagic: o.LCP.NoMagic, Silent: o.LCP.Silent, Passive: o.LCP.Passive,
			EchoInterval: o.LCP.EchoInterval, EchoFailure: o.LCP.EchoFailure, EchoAdaptive: o.LCP.EchoAdaptive,
			Timers: pppTimers(o.LCP.Timers),
		},
		IPv4: ppp.IPv4{
			Off: o.IPv4.Off, Local: o.IPv4.Local, Remote: o.IPv4.Remote, AcceptLocal: o.IPv4.AcceptLocal,
			AcceptRemote: o.IPv4.AcceptRemote, NoRemote: o.IPv4.NoRemote, AskDNS: o.IPv4.UsePeerDNS,
			DNS: o.IPv4.DNS, NBNS: o.IPv4.NBNS, Timers: pppTimers(o.IPv4.Timers),
		},
		IPv6: ppp.IPv6{
			// A NAT has no use for the link-local addresses that are all IPv6CP gives.
			Off:   o.IPv6.Want == pppd.Off || o.Host.NAT && o.IPv6.Want == pppd.AsIs,
			Local: o.IPv6.Local, Remote: o.IPv6.Remote,
			AcceptLocal: o.IPv6.AcceptLocal, AcceptRemote: o.IPv6.AcceptRemote, Timers: pppTimers(o.IPv6.Timers),
		},
		Auth: ppp.Auth{
			RemoteName: o.Auth.RemoteName, Timeout: o.Auth.Timeout, Restart: o.Auth.Restart,
			MaxTries: o.Auth.MaxTries, ChapRechecks: o.Auth.CHAPInterval,
		},
	}
	for octet := range 256 {
		if o.LCP.Escape[octet] {
			c.LCP.Escape.Add(byte(octet))
		}
	}
	if o.Line.Connect != "" || o.Line.Kind == pppd.LinePTY || o.Line.Kind == pppd.LinePipe {
		c.LCP.Settle = o.Line.ConnectDelay
	}
	if o.IPv6.UseIPv4 && o.IPv4.Local.IsValid() && o.IPv6.Local == 0 {
		b := o.IPv4.Local.As4()
		c.IPv6.Local = uint64(binary.BigEndian.Uint32(b[:]))
	}
	if o.Host.NAT {
		natAddresses(&c.IPv4)
	}
	return c
}

func pppTimers(t pppd.Timers) ppp.Timers {
	return ppp.Timers{Restart: t.Restart, MaxConfigure: t.MaxConfigure, MaxTerminate: t.MaxTerminate, MaxFailure: t.MaxFailure}
}

// natAddresses fills in slirp's addresses where none are given. Those that nobody
// named are not insisted upon.
func natAddresses(v4 *ppp.IPv4) {
	if !v4.Remote.IsValid() {
		v4.Remote, v4.AcceptRemote = addresses.In(addresses.Networks[0], addresses.Peer), true
	}
	if !v4.Local.IsValid() {
		v4.Local, v4.AcceptLocal = addresses.In(addresses.Networks[0], addresses.Host), true
	}
	if len(v4.DNS) == 0 {
		v4.DNS = []netip.Addr{natResolver(v4.Local)}
	}
}

// natResolver is where the NAT answers DNS: slirp's address beside slirp's, else
// our own, which the peer has a route to for sure.
func natResolver(local netip.Addr) netip.Addr {
	if addresses.Networks[0].Contains(local) {
		return addresses.In(addresses.Networks[0], addresses.Resolver)
	}
	return local
}
