package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/way"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/host"
)

// login starts the user's ssh, on a socket that stays outside the tunnel if that
// takes anything from this machine, with remote as what the login shell over there
// is to run, on a terminal there if it wants one.
func (n *near) login(ctx context.Context, remote string, terminal bool) error {
	self, err := os.Executable()
	if err != nil {
		return report.At(report.SSH, err, "")
	}
	t := n.config.Target
	c := ssh.Config{
		Program:       n.config.SSH,
		Target:        ssh.Target{User: t.User, Host: t.Host, Port: uint16(t.Port)},
		RemoteCommand: remote,
		Terminal:      terminal,
		FdpassCommand: []string{self, fdpassCommand},
		Log:           func(line string) { n.voice.aside("ssh", line) },
	}
	switch {
	case len(n.config.Via) > 0:
		c.Reach = func(ctx context.Context, address string) (carrier.Stream, error) {
			return n.passage.Reach(ctx, address, config.SSH)
		}
	case n.privileged != nil:
		c.Dial = n.dialOutside
	}
	if n.redialling && len(n.course.marked) > 0 {
		known := n.course.marked[0].Addr() // who knows names is at the other end of what just died
		c.Lookup = func(context.Context, string, string) ([]netip.Addr, error) { return []netip.Addr{known}, nil }
	}
	stream, info, err := ssh.Dial(ctx, c)
	if err != nil {
		return n.refine(report.SSH, err)
	}
	for _, text := range info.Notes {
		if !n.redialling {
			n.voice.note("ssh: %s", text)
		}
	}
	if info.Direct {
		n.done(report.Reach, "%s", joinText(n.course.marked))
	}
	n.stream = stream
	n.stream.ReadWriteCloser = &firstWord{Stream: stream, say: func() {
		n.done(report.SSH, "logged in at %s as %s", info.Host, info.User)
	}}
	n.info = info
	return nil
}

// dialOutside connects a socket whose packets stay outside the tunnel. address has an IP
// address, so that there is one network that it can be of.
func (n *near) dialOutside(ctx context.Context, _, address string) (carrier.Stream, error) {
	if n.redialling {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, way.RedialTime)
		defer cancel()
	}
	stream, err := tcp.Dialer{Control: n.privileged.Control, Congestion: tcp.Congestion(n.config.Congestion)}.Dial(ctx, address)
	if err != nil {
		return carrier.Stream{}, err
	}
	peer := stream.ReadWriteCloser.(interface{ RemoteAddr() net.Addr }).RemoteAddr().(*net.TCPAddr)
	n.course.marked = []netip.AddrPort{peer.AddrPort()}
	return stream, nil
}

// findPeers learns what the connection really goes over, once it is up. What is
// not our own marked socket is pinned: it goes on outside the tunnel.
func (n *near) findPeers() error {
	n.course.text, n.course.encrypted, n.course.authenticated = "ssh to "+n.info.Host, true, true
	if len(n.config.Via) > 0 {
		n.findOutside()
		return nil
	}
	if n.info.Direct {
		n.course.text += " at " + joinText(n.course.marked)
		return nil
	}
	if n.config.Near.Kind != config.Tun {
		return nil // nothing of this machine's goes into the tunnel
	}
	peers, err := n.info.Peers()
	if err != nil {
		return report.At(report.Reach, err, "bodkin must know what to keep outside the tunnel; see whether `ssh -v` shows where it connects to")
	}
	for _, p := range peers {
		n.course.pins = append(n.course.pins, host.Pin{Addr: p, UID: os.Getuid()})
	}
	n.course.text += " by way of " + joinText(peers)
	n.voice.detail("outside the tunnel stays %s", joinText(peers))
	return nil
}

// done says that a layer stands; again and again only to those who want to know.
func (n *near) done(l report.Layer, format string, args ...any) {
	if n.redialling {
		n.voice.detail(l.Name+": "+format, args...)
		return
	}
	n.voice.done(l, format, args...)
}

// refine finds the layer that an error of the way to the far half belongs to.
func (n *near) refine(l report.Layer, err error) error {
	if n.passage != nil {
		err = n.passage.Explain(err)
	}
	var failed *ssh.Error
	if !errors.As(err, &failed) {
		if found, ok := report.OfWay(err); ok {
			l = found
		}
		hint := report.HintOf(err)
		var hangUp *carrier.HangUpError
		if hint == "" && errors.As(err, &hangUp) && hangUp.Hint == "" {
			hint = "run it again; if it ends in the same place, -vv shows what was said there"
		}
		return report.At(l, err, hint)
	}
	l = layerOf(failed.Kind)
	if failed.Kind == ssh.TimedOut && len(n.config.Via) > 0 { // it was reached by then
		l = report.SSH
	}
	hint := failed.Hint
	var refused *carrier.RefusedError
	if hint == "" && errors.As(err, &refused) {
		hint = refused.Hint
	}
	if last := len(n.config.Via) - 1; refused == nil && l == report.SSH && last >= 0 && n.config.Via[last].Scheme == config.Telnet && n.config.Via[last].Relay == "" {
		hint = "if the telnet proxy goes on speaking telnet, write ?relay=telnet behind its URL"
	}
	return report.At(l, err, hint)
}

// layerOf is where an ssh failed.
func layerOf(k ssh.Kind) report.Layer {
	switch k {
	case ssh.NameNotFound, ssh.ConnectionRefused, ssh.TimedOut, ssh.NoRoute:
		return report.Reach
	case ssh.CommandEnded:
		return report.FarHalf
	}
	return report.SSH
}

// passSocket is what ssh runs to get the socket that we connected.
func passSocket(path string) error {
	if err := ssh.ReceiveAndPass(path); err != nil {
		return fmt.Errorf("handing ssh its socket: %w", err)
	}
	return nil
}

// A firstWord says when the first octet came: the login is through.
type firstWord struct {
	carrier.Stream
	once sync.Once
	say  func()
}

func (f *firstWord) Read(b []byte) (int, error) {
	k, err := f.Stream.Read(b)
	if k > 0 {
		f.once.Do(f.say)
	}
	return k, err
}
