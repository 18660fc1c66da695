package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/bodkin-net/bodkin/cmd/bodkin/enclosure"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/endpoint/tun"
)

// This file has the near side of `bodkin exec`: a kernel interface in a network
// namespace that one command is in.

// enclose makes the namespace, before anything is dialled: where it may not be made,
// there is nothing to dial for. From then on Ctrl-C comes by way of it.
func (n *near) enclose(cancel context.CancelCauseFunc) (err error) {
	n.enclosure, err = enclosure.New(enclosure.Config{
		Name: "bodkin0", Command: n.config.Command, Interrupted: func() { cancel(context.Canceled) },
	})
	if err != nil {
		return err
	}
	for _, text := range n.enclosure.Notes() {
		n.voice.detail("%s", text)
	}
	return nil
}

// furnish gives the namespace what the two halves agreed upon.
func (n *near) furnish(context.Context) error {
	s := enclosure.Settings{Addrs: n.agreed.Local, MTU: n.agreed.MTU, Routes: n.routes(), DNS: n.resolvers()}
	if n.config.TakesEverything() {
		s.Routes = nil
	}
	if err := n.enclosure.Set(s); err != nil {
		return err
	}
	file, name := n.enclosure.Device()
	device, err := tun.Open(file, n.agreed.MTU)
	if err != nil {
		return report.At(report.Device, err, "")
	}
	n.port = device
	n.set(func(s *Status) { s.Device, s.DNS = name, n.resolvers() })
	n.voice.done(report.Device, "%s in a network of its own, MTU %d", name, n.agreed.MTU)
	return nil
}

// resolvers are those that names are asked of through the tunnel.
func (n *near) resolvers() []netip.Addr {
	switch d := n.config.DNS; {
	case d.Off:
		return nil
	case d.Server.IsValid():
		return []netip.Addr{d.Server}
	}
	return n.agreed.DNS
}

// An exitError is that the command has ended, however it did: its exit status is ours.
type exitError struct{ status int }

func (e *exitError) Error() string   { return fmt.Sprintf("the command ended with status %d", e.status) }
func (e *exitError) ExitStatus() int { return e.status }

// runCommand runs the command until it ends. If the tunnel ends first, so does the
// command.
func (n *near) runCommand(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	carried := make(chan error, 1)
	go func() {
		err := n.carry(running)
		stop()
		carried <- err
	}()
	status, err := n.enclosure.Run(running)
	stop()
	broken := <-carried
	switch {
	case broken != nil && !errors.Is(broken, context.Canceled):
		return broken // the command was ended for it
	case err != nil:
		return err
	}
	return &exitError{status}
}
