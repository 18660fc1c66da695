package main

import (
	"context"
	"net/netip"
	"sync"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/splitdns"
)

// A forwarder answers names where only some of them are asked for through the tunnel.
type forwarder struct {
	stop    context.CancelFunc
	serving sync.WaitGroup
}

// close ends it, and waits. The machine must have forgotten it before.
func (f *forwarder) close() {
	f.stop()
	f.serving.Wait()
}

// splitNames has names of the wish's domains asked for through the tunnel, and all others
// where the machine asks now, by a forwarder in this process. The wish names it.
func (n *near) splitNames(ctx context.Context) error {
	d := &n.wish.DNS
	if len(d.Domains) == 0 || len(d.Servers) == 0 {
		return nil
	}
	now, err := host.NameServers()
	if err != nil {
		return report.At(report.DNS, err, "")
	}
	f, err := splitdns.New(splitdns.Config{
		Zones:   []splitdns.Zone{{Domains: d.Domains, Reverse: someOf(n.wish.Routes), Servers: atDNS(d.Servers)}},
		Others:  atDNS(now),
		Outside: outsideNames(n.config),
	})
	if err != nil {
		return report.At(report.DNS, err, "")
	}
	sockets, err := n.privileged.Resolver()
	if err != nil {
		return report.At(report.DNS, err, "")
	}
	d.Forwarder = sockets.Addr
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.names = &forwarder{stop: stop}
	n.names.serving.Go(func() {
		if err := f.Serve(serving, sockets.UDP, sockets.TCP); err != nil {
			n.warn("names do not resolve any more: %v", err)
		}
	})
	return nil
}

// outsideNames are the names of the way to the far side, which must be found without it.
func outsideNames(u *config.Up) (names []string) {
	for _, h := range append(u.Via[:len(u.Via):len(u.Via)], u.Target) {
		if _, err := netip.ParseAddr(h.Host); err != nil && h.Host != "" {
			names = append(names, h.Host)
		}
	}
	return names
}

// someOf are the prefixes but for the whole of a family.
func someOf(prefixes []netip.Prefix) (list []netip.Prefix) {
	for _, p := range prefixes {
		if p.Bits() > 0 {
			list = append(list, p)
		}
	}
	return list
}

// atDNS is each address with the port of DNS.
func atDNS(addrs []netip.Addr) (list []netip.AddrPort) {
	for _, a := range addrs {
		list = append(list, netip.AddrPortFrom(a, splitdns.Port))
	}
	return list
}
