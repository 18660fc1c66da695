package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/endpoint/socks"
)

// makeProxy makes the proxy that this side's programs use in place of a kernel
// interface.
func (n *near) makeProxy(context.Context) error {
	u := n.config
	c := socks.Config{
		Listen: []netip.AddrPort{u.Near.Listen}, Public: !u.Near.Listen.Addr().IsLoopback(),
		Local: n.agreed.Local, DNS: n.agreed.DNS, MTU: n.agreed.MTU,
		Routes: u.Routes, Exclude: u.Exclude,
	}
	if len(c.Routes) > 0 { // beside them the tunnel's own network, as with a kernel interface
		c.Routes = slices.Clone(c.Routes)
		for _, p := range n.agreed.Local {
			c.Routes = append(c.Routes, p.Masked())
		}
	}
	if u.DNS.Server.IsValid() {
		c.DNS = []netip.Addr{u.DNS.Server}
	}
	if u.DNS.Off {
		c.DNS = nil
	}
	for _, w := range u.Local {
		network := "tcp"
		if w.UDP {
			network = "udp"
		}
		c.Forwards = append(c.Forwards, socks.Forward{Network: network, Listen: w.Listen, To: n.leadsTo(w)})
	}
	p, err := socks.New(c)
	if err != nil {
		hint := ""
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another program has it: --near socks:PORT takes another, and socks:0 one that is free"
		}
		return report.At(report.Device, err, hint)
	}
	n.port = p
	n.set(func(s *Status) { s.Proxy = p.Addr() })
	n.voice.done(report.Device, "SOCKS5, SOCKS4a and HTTP at %s", joinText(p.Addr()))
	for i, at := range p.Forwards() {
		n.voice.done(report.Device, "%s leads to %s", at, c.Forwards[i].To)
	}
	if c.Public {
		n.warn("whoever can connect to %s uses the tunnel", u.Near.Listen)
	}
	return nil
}

// leadsTo is where a way of -L leads, "host:port": without a host, to the other end.
func (n *near) leadsTo(w config.WayIn) string {
	if w.Host != "" || len(n.agreed.Peer) == 0 {
		return net.JoinHostPort(w.Host, fmt.Sprint(w.Port))
	}
	return netip.AddrPortFrom(n.agreed.Peer[0], w.Port).String()
}

// tryProxy is what to try first with a proxy; empty without one.
func tryProxy(at []netip.AddrPort) string {
	if len(at) == 0 {
		return ""
	}
	return fmt.Sprintf("curl -x socks5h://%s https://www.example.com", at[0])
}
