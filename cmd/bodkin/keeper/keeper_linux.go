package keeper

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/session"
)

// Bounds of what logins do here.
const (
	requestTime = 5 * time.Second  // to say what it wants
	attachTime  = 20 * time.Second // to prove who it is, beside what a slow line needs
	connsAtOnce = 64               // each is short, or has a place of its own in the session
)

// errDown is why a far half ends that was told so by End.
var errDown = errors.New("told so by `bodkin down` at the far side")

// A keeper holds one session.
type keeper struct {
	login   Login // that began it
	since   time.Time
	grace   time.Duration
	session *session.Session
	down    context.CancelCauseFunc

	gone chan struct{} // closed when run has returned
	end  ending        // how; valid then

	conns sync.WaitGroup
}

// Serve is the keeper's process, which Begin has started. run is the far half proper: it
// carries packets between the Stream and this side until the peer ends it or ctx does, and then
// has taken back what it did to the machine. settings are those of the Login that
// began it. Serve returns when all is over.
func Serve(ctx context.Context, run func(ctx context.Context, settings json.RawMessage, s carrier.Stream) error) error {
	signal.Ignore(syscall.SIGHUP) // it has left all terminals
	unix.Umask(0o077)
	os.WriteFile("/proc/self/comm", []byte("bodkin"), 0) // and not "exe"; else it is that
	conn, err := passing.From(os.NewFile(3, "login"))
	if err != nil {
		return report.Usage(errors.New("a held far half is started by `bodkin far`, not by hand"))
	}
	defer conn.Close()
	l, err := listen()
	if err != nil {
		passing.Send(conn, ending{Error: err.Error()})
		return err
	}
	defer l.close()
	if err := passing.Send(conn, ending{}); err != nil {
		return err
	}
	ctx, down := context.WithCancelCause(ctx)
	defer down(nil)
	k := &keeper{since: time.Now(), down: down, gone: make(chan struct{})}
	first, err := k.begin(ctx, conn)
	if err != nil {
		passing.Send(conn, ending{Ended: true, Error: err.Error()})
		return err
	}
	if err := l.name(k.session.ID().String()); err != nil {
		k.session.Close()
		return err
	}
	k.conns.Go(func() { first.wait(k) })
	k.conns.Go(func() { k.accept(ctx, l) })
	k.conns.Go(func() { makeRoom(ctx, k.session.ID().String()) })
	err = run(ctx, k.login.Settings, k.session.Stream())
	k.session.Close()
	k.end = endingOf(err)
	close(k.gone)
	down(nil)
	l.close()
	k.conns.Wait()
	return err
}

// endingOf puts into words how the far half ended.
func endingOf(err error) ending {
	e := ending{Ended: true}
	if err != nil && !errors.Is(err, session.ErrExpired) {
		e.Error, e.Hint, e.Status = cmp.Or(carrier.Printable(err.Error()), "it ended"), report.HintOf(err), report.Status(err)
	}
	return e
}

// begin accepts the session of the login that started us.
func (k *keeper) begin(ctx context.Context, conn *net.UnixConn) (*stay, error) {
	conn.SetReadDeadline(time.Now().Add(requestTime))
	req, files, err := passing.Receive[request](conn)
	if err == nil && req.Verb != verbAttach {
		err = fmt.Errorf("keeper: %q before there is a session", req.Verb)
	}
	if err != nil {
		passing.CloseAll(files)
		return nil, err
	}
	k.login = req.Login
	st, err := newStay(conn, req, files)
	if err != nil {
		return nil, err
	}
	caller, ctx, stop, err := st.greet(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	k.grace = min(caller.Wants(), req.Login.Hold)
	k.session, err = caller.Accept(ctx, session.Terms{Grace: k.grace}, session.Options{})
	if err != nil {
		st.Close()
		return nil, err
	}
	return st, nil
}

// accept serves whoever connects, until the listener is closed.
func (k *keeper) accept(ctx context.Context, l *socket) {
	slots := make(chan struct{}, connsAtOnce)
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		slots <- struct{}{}
		k.conns.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			if e := k.serve(ctx, conn); e != nil {
				passing.Send(conn, *e)
			}
		})
	}
}

// serve answers one request of one who connects. It returns nil if it has answered.
func (k *keeper) serve(ctx context.Context, conn *net.UnixConn) *ending {
	uid, err := passing.UID(conn)
	if err != nil || uid != os.Geteuid() && uid != 0 {
		return nil
	}
	conn.SetDeadline(time.Now().Add(requestTime))
	req, files, err := passing.Receive[request](conn)
	if err != nil {
		passing.CloseAll(files)
		return nil
	}
	conn.SetDeadline(time.Time{})
	switch {
	case req.Verb == verbAttach && uid == os.Geteuid():
		return k.attach(ctx, conn, req, files)
	case req.Verb == verbStatus:
		passing.CloseAll(files)
		passing.Send(conn, k.held())
		return nil
	case req.Verb == verbEnd:
		passing.CloseAll(files)
		k.down(errDown)
		<-k.gone
		if k.end.Error == errDown.Error() {
			return &ending{Ended: true}
		}
		return &k.end
	}
	passing.CloseAll(files)
	return &ending{Error: "keeper: no such request"}
}

// held is how it is now.
func (k *keeper) held() Held {
	stats := k.session.Stats()
	h := Held{ID: k.session.ID().String(), PID: os.Getpid(), Since: k.since, Attached: stats.Attached, Grace: k.grace}
	if !stats.Attached {
		h.Lost = stats.Since
	}
	return h
}

// attach continues the session on what a login gave.
func (k *keeper) attach(ctx context.Context, conn *net.UnixConn, req request, files []*os.File) *ending {
	failed := func(err error) *ending {
		return &ending{Error: carrier.Printable(err.Error()), Status: report.StatusFailed}
	}
	st, err := newStay(conn, req, files)
	if err != nil {
		return failed(err)
	}
	caller, hurry, stop, err := st.greet(ctx)
	if err != nil {
		return failed(err)
	}
	defer stop()
	id, resumes := caller.Resumes()
	switch {
	case !resumes || id != k.session.ID():
		caller.Refuse(session.ErrUnknown)
		return failed(errors.New("keeper: the login wants another session"))
	case !bytes.Equal(req.Login.Key, k.login.Key), !bytes.Equal(req.Login.Settings, k.login.Settings):
		caller.Refuse(session.ErrUnknown)
		return failed(errors.New("the session was begun with another key, or where other things are permitted"))
	}
	if err := k.session.Resume(hurry, caller); err != nil {
		if k.session.Err() != nil { // it ended meanwhile
			<-k.gone
			return &k.end
		}
		return failed(err)
	}
	st.wait(k)
	return nil
}

// A stay is the ReadWriteCloser of the Stream that a login gave, for as long as the
// session uses it and the login lives.
type stay struct {
	carrier.Stream
	conn   *net.UnixConn // to the login
	greets carrier.Stream
	once   sync.Once
	closed chan struct{} // when the session has let go of it
}

// newStay makes a Stream of what came with a request. It owns the files.
func newStay(conn *net.UnixConn, req request, files []*os.File) (*stay, error) {
	if len(files) != 2 {
		passing.CloseAll(files)
		return nil, fmt.Errorf("keeper: %d files to attach, and not 2", len(files))
	}
	for _, f := range files {
		if err := unblocked(f); err != nil {
			passing.CloseAll(files)
			return nil, err
		}
	}
	s, err := command.Take(files[0], files[1])
	if err != nil {
		return nil, err
	}
	s.Rate = req.Rate
	st := &stay{Stream: s, conn: conn, closed: make(chan struct{})}
	s.ReadWriteCloser = st
	st.greets = carrier.Unread(s, req.Greeting)
	return st, nil
}

// unblocked fails for a file on which a read would block the process.
func unblocked(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var flags int
	failed := raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if err = errors.Join(failed, err); err == nil && flags&unix.O_NONBLOCK == 0 {
		err = errors.New("keeper: a file that blocks")
	}
	return err
}

// greet reads the greeting. The context is for what follows of it, and ends in time; stop ends
// it.
func (st *stay) greet(ctx context.Context) (*session.Caller, context.Context, context.CancelFunc, error) {
	st.conn.SetDeadline(time.Time{})
	ctx, stop := context.WithTimeout(ctx, attachTime+st.Patience())
	c, err := session.Greet(ctx, st.greets)
	if err != nil {
		stop()
		st.Close()
		return nil, nil, nil, err
	}
	return c, ctx, stop, nil
}

// Close closes the Stream, once.
func (st *stay) Close() (err error) {
	st.once.Do(func() {
		err = st.Stream.Close()
		close(st.closed)
	})
	return err
}

// wait waits until the session has let go of the Stream, or the login is gone, which is
// the Stream's end: what is behind it reads on no more. The login is told.
func (st *stay) wait(k *keeper) {
	var watching sync.WaitGroup
	watching.Go(func() {
		st.conn.Read(make([]byte, 1)) // it says nothing more
		st.Close()
	})
	<-st.closed
	e := ending{}
	if k.session.Err() != nil {
		<-k.gone
		e = k.end
	}
	passing.Send(st.conn, e)
	st.conn.CloseRead()
	watching.Wait()
}
