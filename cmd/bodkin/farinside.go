package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/cmd/bodkin/farside"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/pty"
)

// This file has the far half at the end of a way that protects nothing.

// tlsRecord is the first octet of a TLS connection: a record with a handshake (RFC
// 8446, section 5.1).
const tlsRecord = 0x16

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
		return err
	}
	if err := f.protected(ctx, identity); err != nil {
		return report.Silent(err) // on this terminal its words would be damage
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

// protected runs the tunnel in TLS.
func (f *farHalf) protected(ctx context.Context, identity tls.Config) error {
	s, _, err := tls.Server(ctx, f.stream, identity)
	if err != nil {
		return err
	}
	s.Rate = f.stream.Rate
	f.stream = s
	return f.run(ctx)
}

// listen waits on a TCP address for one near half, and tells by its first octet
// what it speaks: TLS at once, a line to be measured, or, where that is permitted,
// the tunnel with nothing around it.
func (f *farHalf) listen(ctx context.Context, address string, open, plain bool) error {
	identity, err := identifyFar(ctx, open || plain)
	if err != nil {
		return withPairing(err)
	}
	l, err := tcp.Listen(ctx, address)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	s, err := l.Accept()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	f.stream = s
	f.grant = granted
	if plain {
		return f.run(ctx)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(s, first); err != nil {
		return fmt.Errorf("the near half ended before it said anything: %w", err)
	}
	f.stream = carrier.Unread(s, first)
	if first[0] == tlsRecord {
		return f.protected(ctx, identity)
	}
	if err := f.measure(ctx); err != nil {
		return err
	}
	return f.protected(ctx, identity)
}
