package main

import (
	"bytes"
	"context"
	"errors"
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
	stays := &stay{identity: identity, plain: plain, next: make(chan arrival, 1)}
	defer stays.close()
	defer l.Close()
	coming, stop := context.WithCancel(ctx)
	defer stop()
	for a := (arrival{caller, f.peer}); ; {
		held, err := accept(ctx, a.caller, f.terms(a.caller))
		if err != nil {
			return err
		}
		f.stream = held.Stream()
		stays.begin(held, a.peer)
		stays.open.Do(func() { stays.coming.Go(func() { stays.accept(coming, l) }) })
		err = f.run(ctx)
		held.Close()
		select {
		case a = <-stays.next:
		default:
			return err
		}
	}
}

// terms are for how long a caller's session is held, and why not.
func (f *farHalf) terms(c *session.Caller) session.Terms {
	if f.hold == 0 {
		return session.Terms{Note: noHold}
	}
	return session.Terms{Grace: min(c.Wants(), f.hold)}
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

// An arrival is a near half that begins a session.
type arrival struct {
	caller *session.Caller
	peer   []byte // its key
}

// A stay is the near half that is there, or is waited for, and what others get who come
// meanwhile.
type stay struct {
	identity tls.Config
	plain    bool

	mu   sync.Mutex
	held *session.Session
	peer []byte // the key of its near half

	next   chan arrival // the same near half, which has begun anew
	open   sync.Once
	coming sync.WaitGroup
}

// begin notes who is there from now on.
func (st *stay) begin(held *session.Session, peer []byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.held, st.peer = held, peer
}

// close turns away who comes too late. The listener is closed by then.
func (st *stay) close() {
	st.coming.Wait()
	select {
	case a := <-st.next:
		a.caller.Refuse(session.ErrUnknown)
	default:
	}
}

// accept hears all who connect, until the listener is closed.
func (st *stay) accept(ctx context.Context, l *tcp.Listener) {
	slots := make(chan struct{}, comingAtOnce)
	for {
		s, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		st.coming.Go(func() {
			defer func() { <-slots }()
			st.hear(ctx, s)
		})
	}
}

// hear continues the session on a connection, if it is the same near half's, or lets that
// begin another. Of what strangers try nothing is said, and the session goes on as it
// was.
func (st *stay) hear(ctx context.Context, below carrier.Stream) {
	ctx, stop := context.WithTimeout(ctx, comingTime)
	defer stop()
	keep := context.AfterFunc(ctx, func() { below.Close() })
	f := farHalf{stream: below}
	if !st.plain {
		if err := f.arrive(ctx, st.identity); err != nil {
			below.Close()
			return
		}
	}
	caller, err := session.Greet(ctx, f.stream)
	if err != nil {
		return
	}
	st.mu.Lock()
	held, peer := st.held, st.peer
	st.mu.Unlock()
	id, resumes := caller.Resumes()
	switch {
	case caller.Plain():
		f.stream.Close()
	case resumes && id == held.ID() && bytes.Equal(f.peer, peer):
		if held.Resume(ctx, caller) == nil {
			keep()
		}
	case !resumes && bytes.Equal(f.peer, peer) && (len(peer) > 0 || !held.Stats().Attached):
		// It has proved that it is the same, or nobody is there who could be another.
		select {
		case st.next <- arrival{caller, f.peer}:
			keep()
			held.Close()
		default:
			caller.Refuse(errOther)
		}
	case !resumes:
		caller.Refuse(errOther)
	default:
		caller.Refuse(session.ErrUnknown)
	}
}

// errOther is why another near half gets nothing.
var errOther = errors.New("there is another near half, and place for one")
