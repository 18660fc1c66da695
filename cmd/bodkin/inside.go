package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/way"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/trust"
)

// This file has the ways that ssh does not protect: what goes over them is put into
// TLS from half to half, on a line that is measured first.

// prove finds out, before anything is dialled, by what each half will know the
// other, and makes the way of the config's hops.
func (n *near) prove(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return report.At(report.Reach, err, "")
	}
	n.passage = &way.Way{
		Hops: n.config.Via, Secrets: n.secrets, Silence: n.config.Silence, SSH: n.config.SSH, Congestion: tcp.Congestion(n.config.Congestion), Fdpass: []string{self, fdpassCommand},
		Done:   n.done,
		Banner: func(place, line string) { n.voice.detail("%s says: %s", place, line) },
		Log:    n.voice.aside,
		Control: func(network, address string, raw syscall.RawConn) error {
			if n.privileged == nil {
				return nil
			}
			return n.privileged.Control(network, address, raw)
		},
	}
	switch n.config.Target.Scheme {
	case config.SSH, config.TCP, config.Served:
		return nil
	}
	if n.config.Far.Foreign() {
		n.warn("%s knows no encryption: whoever is on the way can read and change what goes through the tunnel", n.config.Far)
		return nil
	}
	n.identity, err = identify(ctx, n.config)
	if err != nil {
		return err
	}
	if n.config.Open {
		n.warn("nobody proves who the far side is: whoever is on the way can read and change what goes through the tunnel")
	}
	return nil
}

// connectInside makes the connection to the far half by a way that protects nothing.
func (n *near) connectInside(ctx context.Context) error {
	t := n.config.Target
	var err error
	switch {
	case t.Shell():
		err = n.startInShell(ctx)
	case t.Web():
		n.stream, err = n.passage.Web(ctx, t)
	default:
		n.stream, err = n.passage.Reach(ctx, t.Address(), t.Scheme)
	}
	if err != nil {
		return n.refine(report.Reach, err)
	}
	n.course.text = t.String()
	if len(n.config.Via) > 0 {
		n.course.text = wholeWay(n.config)
	}
	n.findOutside()
	rate := 0.0
	identity := n.identity
	if t.Scheme == config.TLS {
		identity.NextProtos = []string{tls.Protocol} // beside the web's, at the same port
	}
	if t.Scheme != config.TLS && !t.Web() {
		s, m, err := line.Dial(ctx, n.stream, line.Options{Coding: coding(n.config.Coding), Log: n.lineLog})
		if err != nil {
			return n.refine(report.Line, err)
		}
		n.stream, rate = s, farside.Slow(m.Rate)
		n.course.line = fmt.Sprintf("%s there, %s back", m.Out, m.In)
		n.done(report.Line, "%s", n.course.line)
	}
	shaking, stop := context.WithTimeout(ctx, cmp.Or(n.config.Silence, way.HandshakeTime)+carrier.Stream{Rate: rate}.Patience())
	defer stop()
	s, peer, err := tls.Client(shaking, n.stream, identity)
	if err != nil {
		return n.refine(report.Key, unanswered(t, err))
	}
	n.stream = s
	n.stream.Rate = rate
	n.course.encrypted, n.course.authenticated = true, !n.identity.Anonymous
	if n.course.authenticated {
		n.done(report.Key, "%s with %s, who is %s", peer.Version, peer.Suite, trust.Fingerprint(peer.Key))
	} else {
		n.done(report.Key, "%s with %s, UNAUTHENTICATED", peer.Version, peer.Suite)
	}
	return nil
}

// unanswered says whose fault it may be that no TLS came about, and what to try.
func unanswered(t config.Hop, err error) error {
	hint := "check that `bodkin serve` or `bodkin far --listen` waits at " + t.Address()
	var silence *carrier.SilenceError
	switch {
	case t.Scheme != config.TLS && !t.Web() && errors.Is(err, tls.ErrDamaged):
		return report.At(report.Line, err, "insist on another coding: --line armour; or look at what the way does since it was measured")
	case t.Scheme != config.TLS && !t.Web():
		return err
	case errors.As(err, &silence):
		return report.At(report.Dialogue, err, hint)
	case errors.Is(err, tls.ErrDamaged):
		return report.At(report.Key, err, hint)
	}
	return err
}

// broke says which layer a tunnel broke in that stood, and what to try.
func broke(l report.Layer, err error) error {
	if isDamage(err) {
		return report.At(report.Line, err, "the way changes octets now and then: a modem or a serial line wants error correction and flow control, elsewhere --line armour may help; run it again then")
	}
	return report.At(l, err, hintAgain)
}

// isDamage reports whether something came that was not sent.
func isDamage(err error) bool {
	var damage *line.DamageError
	return errors.Is(err, tls.ErrDamaged) || errors.As(err, &damage)
}

// atShell goes the way to a shell's prompt at the target.
func (n *near) atShell(ctx context.Context) (carrier.Stream, error) {
	t := n.config.Target
	var s carrier.Stream
	var err error
	if t.Scheme == config.Telnet {
		s, err = n.passage.Telnet(ctx, t)
	} else {
		s, err = n.passage.Start(t)
	}
	if err != nil {
		return s, err
	}
	if t.Scheme == config.Cmd && n.config.Chat == "" && n.config.Become == "" {
		return s, nil // a shell on pipes shows no prompt
	}
	s, err = n.passage.Login(ctx, s, t, way.LoginOptions{Script: n.config.Chat, Become: n.config.Become})
	if err != nil {
		return s, err
	}
	n.done(report.Login, "a shell at %s", t.Place())
	return s, nil
}

// startInShell logs in at the target and starts the far half in its shell.
func (n *near) startInShell(ctx context.Context) error {
	builds, err := n.builds()
	if err != nil {
		return err
	}
	if n.stream, err = n.atShell(ctx); err != nil {
		return err
	}
	o := n.shellOptions()
	o.Builds, o.Progress = builds, n.sent()
	o.Open = n.identity.Anonymous
	s, result, err := farhalf.StartInShell(ctx, n.stream, o)
	if err != nil {
		return n.refine(report.FarHalf, err)
	}
	n.stream = s
	n.started(result)
	return nil
}

// programInShell logs in at the target and starts the far side's own emulator in
// its shell.
func (n *near) programInShell(ctx context.Context, nonce string) (carrier.Stream, error) {
	s, err := n.atShell(ctx)
	if err != nil {
		return s, n.refine(report.Reach, err)
	}
	o := n.shellOptions()
	o.Nonce = nonce
	s, err = farhalf.StartProgramInShell(ctx, s, o, n.config.Far.Command)
	if err != nil {
		return s, n.refine(report.FarHalf, err)
	}
	n.course.text, n.course.encrypted, n.course.authenticated = wholeWay(n.config), false, false
	n.done(report.FarHalf, "starts %s", n.config.Far)
	return s, nil
}

// shellOptions are what the shell at the target needs.
func (n *near) shellOptions() farhalf.Options {
	o := farhalf.Options{Nonce: farhalf.NewNonce(), LineEnd: "\r"}
	if n.config.Target.Scheme == config.Cmd {
		o.LineEnd = "\n"
	}
	return o
}

// findOutside learns what the way goes out of this machine by: our own socket stays
// outside by its mark, and the sockets of other programs by their addresses.
func (n *near) findOutside() {
	if n.redialling { // it goes where it went before
		return
	}
	socket, pids := n.passage.Outside()
	n.course.marked = nil
	if socket.IsValid() {
		n.course.marked = []netip.AddrPort{socket}
	}
	if n.config.Near.Kind != config.Tun {
		return
	}
	for _, pid := range pids {
		peers, err := command.Peers(pid)
		if err != nil {
			n.warn("what carries the tunnel has no connection that can be seen: should it use the network, keep its addresses out with -x")
			continue
		}
		for _, p := range peers {
			n.course.pins = append(n.course.pins, host.Pin{Addr: p, UID: os.Getuid()})
		}
		n.voice.detail("outside the tunnel stays %s", joinText(peers))
	}
}

func (n *near) lineLog(text string) { n.voice.aside("line", text) }

// coding is the line's coding of that name.
func coding(name string) line.Coding {
	switch name {
	case "clean":
		return line.Clean
	case "escape":
		return line.Escape
	case "armour":
		return line.Armour
	}
	return line.Auto
}

// slowMTU is the MTU of a tunnel over a slow line: the least that IPv6 permits (RFC
// 8200, section 5).
const slowMTU = 1280
