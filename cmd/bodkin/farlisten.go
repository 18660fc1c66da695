package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/tls"
	"github.com/bodkin-net/bodkin/session"
)

// This file has the far half that waits at a TCP address for one near half, and for
// the same again when its connection was lost.

// tlsRecord is the first octet of a TLS connection: a record with a handshake (RFC
// 8446, section 5.1).
const tlsRecord = 0x16

// Bounds of connections by which a near half says that it comes back.
const (
	comingAtOnce = 8                // each is nobody yet, and costs a handshake
	comingTime   = 30 * time.Second // to prove who it is, beside what a slow line needs
)

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
	if !plain {
		if err := f.arrive(ctx, identity); err != nil {
			return err
		}
	}
	caller, err := greet(ctx, f.stream)
	if err != nil {
		return err
	}
	if caller.Plain() {
		f.stream = caller.Stream()
		return f.run(ctx)
	}
	if _, resumes := caller.Resumes(); resumes {
		return refuse(caller) // there was nobody before
	}
	held, err := accept(ctx, caller, session.Terms{Grace: min(caller.Wants(), f.hold)})
	if err != nil {
		return err
	}
	f.stream = held.Stream()
	var coming sync.WaitGroup
	coming.Go(func() { f.comeAgain(ctx, l, held, identity, plain) })
	err = f.run(ctx)
	held.Close()
	l.Close()
	coming.Wait()
	return err
}

// arrive makes of a connection what goes on inside TLS.
func (f *farHalf) arrive(ctx context.Context, identity tls.Config) error {
	first := make([]byte, 1)
	if _, err := io.ReadFull(f.stream, first); err != nil {
		return fmt.Errorf("the near half ended before it said anything: %w", err)
	}
	f.stream = carrier.Unread(f.stream, first)
	if first[0] != tlsRecord {
		if err := f.measure(ctx); err != nil {
			return err
		}
	}
	return f.protect(ctx, identity)
}

// comeAgain continues the session on further connections of the same near half, until
// the listener is closed.
func (f *farHalf) comeAgain(ctx context.Context, l *tcp.Listener, held *session.Session, identity tls.Config, plain bool) {
	ctx, stop := context.WithCancel(ctx)
	var coming sync.WaitGroup
	defer coming.Wait()
	defer stop()
	slots := make(chan struct{}, comingAtOnce)
	for {
		s, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		again := farHalf{stream: s, peer: f.peer}
		coming.Go(func() {
			defer func() { <-slots }()
			again.resume(ctx, held, identity, plain)
		})
	}
}

// resume continues the session on a connection, if it is the same near half's. Of what
// strangers try, nothing is said: the session goes on as it was.
func (f *farHalf) resume(ctx context.Context, held *session.Session, identity tls.Config, plain bool) {
	below := f.stream
	ctx, stop := context.WithTimeout(ctx, comingTime)
	defer stop()
	taken := context.AfterFunc(ctx, func() { below.Close() })
	began := f.peer
	if !plain {
		if err := f.arrive(ctx, identity); err != nil {
			below.Close()
			return
		}
	}
	caller, err := session.Greet(ctx, f.stream)
	if err != nil {
		f.stream.Close()
		return
	}
	id, resumes := caller.Resumes()
	if !resumes || id != held.ID() || !bytes.Equal(f.peer, began) {
		caller.Refuse(session.ErrUnknown)
		return
	}
	if held.Resume(ctx, caller) == nil {
		taken()
	}
}
