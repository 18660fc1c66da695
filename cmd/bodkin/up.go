package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/ssh"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/cmd/bodkin/enclosure"
	"github.com/bodkin-net/bodkin/cmd/bodkin/footprint"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/cmd/bodkin/way"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A near is the near side of a tunnel that comes up, runs and goes. Its layers,
// in layers.go, stand on each other in the order of the fields.
type near struct {
	config *config.Up
	voice  *voice

	networks    []netip.Prefix       // what the tunnel's addresses come from
	mine        tunnel.Agreed        // what a NAT here gives the far side: its addresses, ours, its resolvers
	privileged  *privilege.Helper    // nil if nothing of this machine is changed
	enclosure   *enclosure.Enclosure // where the command runs that has a network of its own; or nil
	helperWords carrier.Words        // what sudo and the helper say
	nearWords   carrier.Words        // what this side's pppd or slirp says
	control     *control
	secrets     *secret.Sources
	passage     *way.Way   // the hops to the target
	identity    tls.Config // who we are to the far half, where ssh does not say it
	info        ssh.Info   // of the login, by ssh
	stream      carrier.Stream
	course      course // what the stream goes over
	redialling  bool
	record      *os.File // takes what the PPP link carries; nil: nothing does
	link        link
	agreed      tunnel.Agreed
	port        tunnel.Port // this side's emulator
	wish        host.Wish
	names       *forwarder         // of DNS, where only some names go through the tunnel; or nil
	joined      chan error         // what Join returned
	stop        context.CancelFunc // ends Join
	ended       chan struct{}      // closed when Join has
	changed     chan string        // tells that the network has changed, or the machine has slept; room for one
	watching    sync.WaitGroup     // for that

	mu     sync.Mutex
	status Status
	toward []netip.Addr // where the connection's packets go
}

// A course is what became known about the connection that carries the tunnel.
type course struct {
	text          string           // "ssh to 198.51.100.22:22", for people
	line          string           // how octets go over it, where that was measured
	encrypted     bool             // from here to the far half
	authenticated bool             // each end knows who the other is
	marked        []netip.AddrPort // far ends of our own marked sockets
	pins          []host.Pin       // what somebody else's sockets are connected to
}

// up brings the tunnel up, lets it carry until ctx ends or something breaks, and
// takes everything back. ready is called once packets have passed.
func up(ctx context.Context, u *config.Up, secrets *secret.Sources, errw io.Writer, ready func()) error {
	footprint.Limit()
	secrets.Own()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := &near{config: u, secrets: secrets, voice: newVoice(errw, u.Verbose)}
	n.voice.quiet = u.Near.Kind == config.Enclosed && u.Verbose == 0 // what is said there is the command's
	n.status = Status{
		Name: u.Name, State: "connecting", Target: u.Target.String(), PID: os.Getpid(), Since: time.Now().Round(time.Second),
		Near: u.Near.String(), Routes: u.Routes, Exclude: u.Exclude,
	}
	n.voice.head("bodkin %s: %s through %s", version, u.Name, wholeWay(u))

	err := n.climb(ctx, cancel)
	isUp := err == nil
	if isUp {
		n.set(func(s *Status) { s.State = "up" })
		n.voice.up(u, n.snapshot())
		ready()
		if n.enclosure != nil {
			err = n.runCommand(ctx)
		} else {
			err = n.carry(ctx)
		}
	} else if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	n.set(func(s *Status) { s.State = "stopping" })
	cancel(nil)
	notes, failed := n.descend(err)

	var ended *exitError
	if errors.As(err, &ended) {
		return report.Silent(err)
	}
	asked := errors.Is(err, context.Canceled) || errors.Is(err, errDown)
	if isUp {
		n.voice.down(u, err, notes, failed)
	} else {
		n.voice.notes(notes)
	}
	switch {
	case failed != nil:
		return report.At(report.Routes, failed, "`bodkin clean` tries again")
	case asked && isUp:
		return nil
	case asked:
		return report.Silent(report.At(report.Tunnel, errors.New("stopped while coming up"), ""))
	case isUp:
		return broke(report.Tunnel, err)
	}
	return err
}

// hintAgain is what to try after a tunnel that broke.
const hintAgain = "see whether the server is still reachable, then run the same command again"

// climb brings up the layers one after the other, each named when it stands.
func (n *near) climb(ctx context.Context, cancel context.CancelCauseFunc) error {
	steps := []func(context.Context) error{
		func(context.Context) error { return n.listen(cancel) },
		n.choose,
	}
	switch n.config.Near.Kind {
	case config.Tun:
		steps = append(steps, n.gainPrivilege)
	case config.Enclosed:
		steps = append(steps, n.renouncePrivilege, func(context.Context) error { return n.enclose(cancel) })
	default:
		steps = append(steps, n.renouncePrivilege)
	}
	steps = append(steps, n.prove)
	if n.config.Near.Kind == config.SLiRP {
		steps = append(steps, n.openSLiRP)
	}
	if n.config.Far.Foreign() {
		steps = append(steps, n.openProgram)
	} else {
		steps = append(steps, n.connect, n.openLink)
	}
	switch n.config.Near.Kind {
	case config.Tun:
		steps = append(steps, n.makeDevice, n.setHost, n.join, n.probe)
	case config.Enclosed:
		steps = append(steps, n.furnish, n.join)
	case config.Socks:
		steps = append(steps, n.makeProxy, n.join)
	case config.NAT:
		steps = append(steps, n.makeNAT, n.join)
	case config.SLiRP:
		steps = append(steps, n.join)
	default:
		steps = append(steps, n.openPPPD, n.join)
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// signalPatience is how much later than ssh we may see a signal that was for both,
// on a busy machine.
const signalPatience = 300 * time.Millisecond

// carry joins the device and the link until one of them ends or ctx does.
func (n *near) carry(ctx context.Context) error {
	var helperGone <-chan struct{} // never, without one
	if n.privileged != nil {
		helperGone = n.privileged.Gone()
	}
	select {
	case err := <-n.joined:
		// Ctrl-C reaches ssh too, and its end may be seen before the signal is.
		late := time.NewTimer(signalPatience)
		defer late.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-helperGone:
		return privilege.ErrGone
	}
}

// descend takes everything back, in the reverse order: the machine first, so
// that it is as it was even when the rest is slow to end. It returns what was left
// to others, who changed it since, and why something could not be taken back.
func (n *near) descend(cause error) (notes []string, failed error) {
	if n.privileged != nil && n.wish.Device != "" {
		notes, failed = n.privileged.Undo()
		if errors.Is(failed, privilege.ErrGone) {
			failed = nil // its own end says how it went
		}
	}
	if n.enclosure != nil {
		n.enclosure.Close()
	}
	if n.names != nil {
		n.names.close()
	}
	if n.link != nil {
		n.link.farewell(errors.Is(cause, context.Canceled) || errors.Is(cause, errDown))
	}
	if n.stop != nil {
		n.stop()
		<-n.ended
	}
	if n.stream.ReadWriteCloser != nil {
		n.stream.Close()
	}
	if n.port != nil {
		n.port.Close()
	}
	if n.record != nil {
		n.record.Close()
	}
	if n.privileged != nil {
		if err := n.privileged.Close(); err != nil && failed == nil && n.wish.Device != "" {
			failed = fmt.Errorf("the host helper ended with %w", err)
		}
	}
	if n.control != nil {
		n.control.close(notes, failed)
	}
	n.watching.Wait()
	return notes, failed
}

// set changes the status under its lock.
func (n *near) set(change func(*Status)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.status)
}

// snapshot is the status as it is now.
func (n *near) snapshot() Status {
	n.mu.Lock()
	s := n.status
	link := n.link
	n.mu.Unlock()
	s.Warnings = slices.Clone(s.Warnings)
	if s.State == "up" && n.privileged != nil {
		s.Warnings = append(s.Warnings, n.privileged.Look()...)
	}
	if link != nil {
		link.count(&s)
	}
	return s
}
