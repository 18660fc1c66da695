package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/cmd/bodkin/addresses"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/tunnel"
)

// This file has the emulators that are other people's programs: pppd, slirp and
// whatever else speaks PPP, at the far side of a login or here.

// slirpDNS is where a real slirp answers questions about names.
var slirpDNS = netip.MustParseAddr("10.0.2.3")

// echoInterval and echoFailure find a silent death of a PPP link, as native's
// keepalive does: in half a minute.
const (
	echoInterval = 10 * time.Second
	echoFailure  = 3
)

// openProgram starts the far side's own emulator and opens a PPP link to it.
func (n *near) openProgram(ctx context.Context) error {
	if n.config.Record != "" {
		var err error
		if n.record, err = os.OpenFile(n.config.Record, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return report.At(report.Link, err, "name another file with --record")
		}
	}
	p, s, err := n.dialProgram(ctx, tunnel.Agreed{})
	if err != nil {
		return err
	}
	n.stream = s
	switch t := n.config.Target; {
	case t.Shell():
		n.findOutside()
	case t.Scheme != config.TCP:
		if err := n.findPeers(); err != nil {
			p.Close()
			return err
		}
	}
	n.agreed = p.Agreed()
	if n.config.Far.Kind == config.SLiRP {
		n.agreed.DNS = slices.DeleteFunc(n.agreed.DNS, netip.Addr.IsLoopback)
		if len(n.agreed.DNS) == 0 {
			n.agreed.DNS = []netip.Addr{slirpDNS}
		}
	}
	if n.config.Near.Kind == config.Tun {
		n.sayWhatStays()
	}
	l := &keptLink{Port: p, now: pppLink{p}, stream: s}
	if before := n.agreed; !n.config.Once {
		n.keep(ctx, l, func(ctx context.Context) (link, carrier.Stream, tunnel.Agreed, error) {
			p, s, err := n.dialProgram(ctx, before)
			if err != nil {
				return nil, s, tunnel.Agreed{}, err
			}
			return pppLink{p}, s, p.Agreed(), nil
		})
	}
	n.set(func(st *Status) {
		n.link = l
		if n.config.Near.Kind == config.Tun {
			st.Routes = n.routes()
		}
		st.Carrier, st.Encrypted, st.Authenticated = n.course.text, n.course.encrypted, n.course.authenticated
		st.Far, st.FarHalf = n.config.Far.String(), "by PPP"
		st.Addresses, st.MTU = n.agreed.Local, n.agreed.MTU
	})
	return nil
}

// sayWhatStays warns of prefixes that the far side gives no address for.
func (n *near) sayWhatStays() {
	for _, p := range n.config.Routes {
		switch {
		case slices.Contains(n.routes(), p):
		case p.Bits() == 0:
			n.warn("%s speaks no IPv6: it is refused while the tunnel is up, and does not go around it", n.config.Far)
		default:
			n.warn("%s speaks no IPv6: %s is left as it is", n.config.Far, p)
		}
	}
}

// dialProgram logs in, starts the far side's emulator and speaks PPP to it. before
// is what was agreed upon the last time, if there was one.
func (n *near) dialProgram(ctx context.Context, before tunnel.Agreed) (*ppp.Link, carrier.Stream, error) {
	far := n.config.Far
	s, err := n.reachProgram(ctx)
	if err != nil {
		return nil, s, err
	}
	c := n.pppConfig()
	if n.record != nil {
		c.Record = n.record
	}
	v4 := &c.IPv4
	switch {
	case len(before.Local) > 0:
		v4.Local, v4.AcceptLocal = before.Local[0].Addr(), true
		if len(before.Peer) > 0 {
			v4.Remote = before.Peer[0]
		}
		v4.AskDNS = true
	case !n.config.Near.Reaches(): // the NAT here gives the addresses
		v4.Local, v4.Remote = n.mine.Peer[0], n.mine.Local[0].Addr()
		v4.DNS = resolversFor(n.mine.DNS)
	case far.Kind == config.SLiRP: // it gives them, but does not know its own
		v4.AcceptLocal, v4.Remote, v4.AskDNS = true, addresses.In(addresses.Networks[0], addresses.Host), true
	default:
		v4.Local, v4.AcceptLocal = addresses.In(n.networks[0], addresses.Peer), true
		v4.Remote, v4.AskDNS = addresses.In(n.networks[0], addresses.Host), true
	}
	v4.AcceptRemote = true
	began := time.Now()
	p, err := ppp.Open(ctx, s, c)
	if err != nil {
		s.Close()
		return nil, s, n.pppError(far, err)
	}
	a := p.Agreed()
	n.done(report.Link, "PPP with %s, %s to %s, in %.2f s", far, joinText(a.Local), joinText(a.Peer), time.Since(began).Seconds())
	return p, s, nil
}

// reachProgram starts the far side's emulator over a login. On a bare TCP connection it
// has to be there already.
func (n *near) reachProgram(ctx context.Context) (carrier.Stream, error) {
	if n.config.Target.Scheme == config.TCP {
		err := n.connectTCP(ctx)
		return n.stream, err
	}
	far, nonce := n.config.Far, farhalf.NewNonce()
	if n.config.Target.Shell() {
		return n.programInShell(ctx, nonce)
	}
	if err := n.login(ctx, farhalf.Program(nonce, far.Terminal), far.Terminal); err != nil {
		return carrier.Stream{}, err
	}
	s, err := farhalf.StartProgram(ctx, n.stream, nonce, far.Command)
	if err != nil {
		return s, n.refine(report.FarHalf, err)
	}
	n.done(report.FarHalf, "starts %s", far)
	return s, nil
}

// pppConfig is what is wanted of every PPP link with a foreign program.
func (n *near) pppConfig() ppp.Config {
	c := ppp.Config{
		LCP:  ppp.LCP{EchoInterval: echoInterval, EchoFailure: echoFailure},
		IPv6: ppp.IPv6{Off: true}, // IPv6CP agrees upon link-local addresses alone, with which nothing is reached
	}
	if n.config.Verbose > 1 {
		c.Log = func(line string) { n.voice.aside("ppp", line) }
	}
	return c
}

const hintNoAuth = "ssh has proved already who we are: add noauth to its options, which only root may"

// pppError says what the far side's program failed at.
func (n *near) pppError(e config.Emulator, err error) error {
	if refined := n.refine(report.Link, err); report.HintOf(refined) != "" {
		return refined
	}
	hint := fmt.Sprintf("run it again with -vv, which shows what both sides want of the link; and try %s by hand over there", e)
	var failed *ppp.Error
	if errors.As(err, &failed) {
		switch failed.Kind {
		case ppp.OurSecret:
			hint = hintNoAuth
		case ppp.Loop:
			hint = "it may have ended while its terminal echoes; try it by hand over there"
		case ppp.Hangup:
			switch {
			case e.Kind == config.SLiRP && strings.Contains(err.Error(), "status 127"):
				hint = "install slirp there (Debian's package slirp), or let bodkin bring its own: --far nat"
			case e.Kind == config.PPPD && strings.Contains(err.Error(), "secret"):
				hint = hintNoAuth
			}
		}
	}
	return report.At(report.Link, err, hint)
}

// startNear runs the emulator of this side that is a program, on a terminal of its
// own if it wants one.
func (n *near) startNear(ctx context.Context, set func(*ppp.IPv4)) (*ppp.Link, error) {
	e := n.config.Near
	process, err := command.Start(command.Config{
		Args:   []string{"/bin/sh", "-c", execLine(e.Command)},
		TTY:    e.Terminal,
		Stderr: &n.nearWords,
	})
	if err != nil {
		return nil, report.At(report.Device, err, "")
	}
	c := n.pppConfig()
	c.LCP.EchoInterval = 0 // no way between, nothing to die unseen
	if e.Kind != config.SLiRP {
		// It speaks first, and throws away what came before it was ready.
		c.LCP.Settle = time.Second
	}
	set(&c.IPv4)
	p, err := ppp.Open(ctx, process.Stream(), c)
	if err != nil {
		process.Close()
		if words := n.nearWords.Last(); words != "" {
			err = fmt.Errorf("%w; it said: %q", err, words)
		}
		return nil, report.At(report.Device, fmt.Errorf("%s: %w", e, err), "try the command by hand, and run this again with -vv")
	}
	a := p.Agreed()
	n.voice.done(report.Device, "%s runs here as process %d, %s", e, process.PID(), joinText(a.Peer))
	return p, nil
}

// execLine has the shell become the program where that can be seen to be one.
func execLine(line string) string {
	if strings.ContainsAny(line, ";&|{}()<>\n") {
		return line
	}
	return "exec " + line
}
