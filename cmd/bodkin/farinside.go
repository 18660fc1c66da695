package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// This file has the far half at the end of a way that protects nothing.

// lastWordsTime is how long the far half stays on a terminal after it gave up, for the
// near half to hear why and to hang up: what is in the terminal when its last program
// ends, a telnetd throws away.
const lastWordsTime = 5 * time.Second

// runInside is the far half that a near half has started in a shell: it says so,
// measures the line together with it, and puts the tunnel into TLS.
func (f *farHalf) runInside(ctx context.Context, nonce string, open bool) error {
	if !pty.IsTerminal(os.Stdin) {
		return f.inShell(ctx, nonce, open)
	}
	// The terminal is ours from here on: the shell has made way. It is not set back,
	// for nobody comes after us, and what is still on its way then is not for the eyes
	// of a line editor.
	if _, err := pty.Raw(os.Stdin); err != nil {
		return err
	}
	terminal, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return f.inShell(ctx, nonce, open) // it is nobody's, and no hang-up will be seen
	}
	defer terminal.Close()
	err = f.inShell(ctx, nonce, open)
	if report.Said(err) && terminal.SetReadDeadline(time.Now().Add(lastWordsTime)) == nil {
		defer context.AfterFunc(ctx, func() { terminal.SetReadDeadline(time.Unix(1, 0)) })()
		io.Copy(io.Discard, terminal)
	}
	return err
}

// inShell is runInside with the terminal made ready.
func (f *farHalf) inShell(ctx context.Context, nonce string, open bool) error {
	stream, err := command.Stdio()
	if err != nil {
		return err
	}
	f.stream = stream
	identity, err := identifyFar(ctx, open)
	if err != nil {
		farhalf.Fail(f.stream, nonce, "nokey", err.Error())
		return report.Silent(err)
	}
	if err := farhalf.Announce(f.stream, nonce); err != nil {
		return err
	}
	go farhalf.Tidy()
	if err := f.measure(ctx); err != nil {
		if ctx.Err() != nil {
			return report.Silent(err) // it was ended, and the near half may be in TLS by now
		}
		return err
	}
	if err := f.protect(ctx, identity); err != nil {
		return report.Silent(err) // on this terminal its words would be damage
	}
	if err := f.meet(ctx); err != nil {
		return report.Silent(err)
	}
	return nil
}

// measure measures the line together with the near half, and puts what goes over it
// into octets that it carries.
func (f *farHalf) measure(ctx context.Context) error {
	s, err := farside.Measure(ctx, f.stream)
	if err != nil {
		return err
	}
	f.stream = s
	return nil
}

// protect puts the Stream into TLS, and learns the near half's key.
func (f *farHalf) protect(ctx context.Context, identity tls.Config) error {
	s, peer, err := tls.Server(ctx, f.stream, identity)
	if err != nil {
		return err
	}
	s.Rate = f.stream.Rate
	f.stream, f.peer = s, peer.Key
	return nil
}
