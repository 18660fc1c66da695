package keeper

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/session"
)

// Begin starts a keeper that accepts a new session with the caller, and returns when
// that has let go of the caller's Stream, or has ended: with the far half's own error,
// if it was that. If ctx ends first, the Stream is lost to the session, which waits
// for the next. Begin owns the Stream then; but an *ImpossibleError leaves all as it
// was, and the caller to be accepted in this process.
func Begin(ctx context.Context, c *session.Caller, l Login) error {
	k, err := start(ctx)
	if err != nil {
		return err
	}
	defer k.conn.Close()
	end, err := hand(ctx, k.conn, c.Stream(), l)
	if end.Ended || errors.Is(err, errGone) {
		k.reap()
	}
	return end.said(err)
}

// Continue hands the caller's Stream to the keeper of the session, and returns when that
// has let go of it, as Begin does. Where there is no such keeper, or where its session is
// not for such a login, the caller is told session.ErrUnknown.
func Continue(ctx context.Context, c *session.Caller, id session.ID, l Login) error {
	conn, err := find(id)
	if err != nil {
		c.Refuse(session.ErrUnknown)
		return report.Silent(err)
	}
	defer conn.Close()
	end, err := hand(ctx, conn, c.Stream(), l)
	return end.said(err)
}

// find connects to the keeper of a session. One that has only just begun it may have to
// be waited for.
func find(id session.ID) (*net.UnixConn, error) {
	file := id.String() + suffix
	for _, p := range own() {
		if !p.closed() {
			continue
		}
		if conn, err := p.dial(file); err == nil {
			return conn, nil
		}
		for _, h := range p.list() {
			if h.ID == id.String() {
				return p.dial(file)
			}
		}
	}
	return nil, session.ErrUnknown
}

// hand gives a Stream to a keeper, and waits until that has let go of it. It owns the
// Stream.
func hand(ctx context.Context, conn *net.UnixConn, s carrier.Stream, l Login) (ending, error) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	below, read := carrier.Rest(s)
	given, err := command.Give(below, func(in, out *os.File) error {
		return passing.Send(conn, request{Verb: verbAttach, Login: l, Greeting: read, Rate: s.Rate}, in, out)
	})
	switch {
	case err != nil:
		s.Close()
		return ending{}, gone(ctx, err)
	case given:
		return wait(ctx, conn)
	}
	return relay(ctx, conn, s, l)
}

// relayQueue is how much may wait in a relay's socket, in octets each way: what is read
// at once. The system takes it for twice as much.
const relayQueue = 64 << 10

// lastTime is how long a relay carries on what a keeper wrote last.
const lastTime = 2 * time.Second

// relay is hand for a Stream that only this process can read and write.
func relay(ctx context.Context, conn *net.UnixConn, s carrier.Stream, l Login) (ending, error) {
	ours, theirs, err := streamPair()
	if err == nil {
		err = passing.Send(conn, request{Verb: verbAttach, Login: l, Rate: s.Rate}, theirs, theirs)
		theirs.Close()
		if err != nil {
			ours.Close()
		}
	}
	if err != nil {
		s.Close()
		return ending{}, gone(ctx, err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		carrier.Join(ctx, s, carrier.Stream{ReadWriteCloser: ours})
	}()
	end, err := wait(ctx, conn)
	late := time.AfterFunc(lastTime, stop)
	defer late.Stop()
	<-joined
	return end, err
}

// streamPair returns a connection, and the other end for a keeper.
func streamPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, relayQueue) // else it is longer
	}
	near, far := os.NewFile(uintptr(fds[0]), "relay"), os.NewFile(uintptr(fds[1]), "relay")
	conn, err := passing.From(near)
	if err != nil {
		far.Close()
	}
	return conn, far, err
}

// errGone is that a keeper says nothing any more.
var errGone = errors.New("the process that held the far half is gone")

// gone is why nothing comes from a keeper.
func gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &goneError{err}
}

type goneError struct{ err error }

func (e *goneError) Error() string   { return errGone.Error() + ": " + e.err.Error() }
func (e *goneError) Unwrap() []error { return []error{errGone, e.err} }

// wait waits until a keeper says how it ended.
func wait(ctx context.Context, conn *net.UnixConn) (ending, error) {
	end, files, err := passing.Receive[ending](conn)
	passing.CloseAll(files)
	if err != nil {
		return end, gone(ctx, err)
	}
	return end, nil
}

// said is the error of a login that ended so.
func (e ending) said(err error) error {
	switch {
	case err != nil:
		return err
	case e.Error == "":
		return nil
	case e.Hint != "":
		return report.WithHint(&endError{e}, e.Hint)
	}
	return &endError{e}
}

// reap waits for a keeper that ends, or has ended, so that the login's own end is the
// last of it.
func (c *child) reap() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.cmd.Wait()
	}()
	late := time.NewTimer(endTime)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C: // our own end follows, and the system's first process reaps it
	}
}
