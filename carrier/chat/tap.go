package chat

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// errSilence is what read and write return when time is up.
var errSilence = errors.New("no answer in time")

// tapBuffer is how much is read at once, in octets: a screenful.
const tapBuffer = 4 << 10

// A tap reads and writes a Stream with a limit of time, which a Stream has not. It
// reads only when it is told to, so that nothing is taken that nobody asked for. One
// goroutine calls its methods.
type tap struct {
	carrier.Stream

	buffer  [tapBuffer]byte
	got     chan arrival // of the Read under way; room for one
	reading bool         // there is one, whose arrival nobody has taken
	running sync.WaitGroup
}

// An arrival is what a Read returned.
type arrival struct {
	octets []byte
	err    error
}

func newTap(st carrier.Stream) *tap { return &tap{Stream: st, got: make(chan arrival, 1)} }

// A deadliner is a Stream whose Read can be called off, as that of a net.Conn can.
type deadliner interface {
	SetReadDeadline(time.Time) error
}

// next returns what comes next, valid until the next call: some octets, or an error,
// but not both. After errSilence it may be called again: nothing is lost.
func (t *tap) next(ctx context.Context, patience time.Duration) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	t.read()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-t.got:
		return t.take(a)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
	}
	d, ok := t.ReadWriteCloser.(deadliner)
	if !ok || d.SetReadDeadline(time.Unix(1, 0)) != nil {
		return nil, errSilence
	}
	defer d.SetReadDeadline(time.Time{})
	octets, err := t.take(<-t.got)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errSilence
	}
	return octets, err
}

// read begins a Read, unless one is under way.
func (t *tap) read() {
	if t.reading {
		return
	}
	t.reading = true
	t.running.Go(func() {
		for {
			n, err := t.Stream.Read(t.buffer[:])
			if n > 0 {
				err = nil // it comes again
			}
			if n > 0 || err != nil {
				t.got <- arrival{t.buffer[:n], err}
				return
			}
		}
	})
}

func (t *tap) take(a arrival) ([]byte, error) {
	t.reading = false
	return a.octets, a.err
}

// write writes octets, all of them or fails. After errSilence the Stream is of no use.
func (t *tap) write(ctx context.Context, octets []byte, patience time.Duration) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	t.running.Go(func() {
		n, err := t.Stream.Write(octets)
		if err == nil && n < len(octets) {
			err = io.ErrShortWrite
		}
		done <- err
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errSilence
	}
}

// close closes the Stream and waits for what it ends.
func (t *tap) close() {
	t.Stream.Close()
	t.running.Wait()
}

// handOn returns the Stream that begins with rest, octets that were read too far.
func (t *tap) handOn(rest []byte) carrier.Stream {
	st := t.Stream
	if !t.reading {
		return carrier.Unread(st, append([]byte(nil), rest...))
	}
	l := late{Stream: st, tap: t} // and rest is empty: there was none when it was asked for more
	if halves, ok := st.ReadWriteCloser.(carrier.CloseWriter); ok {
		st.ReadWriteCloser = &lateHalves{&l, halves}
	} else {
		st.ReadWriteCloser = &l
	}
	return st
}

// late is the ReadWriteCloser of a Stream handed on while a Read of ours is still
// under way: its octets come first.
type late struct {
	carrier.Stream
	tap   *tap
	first arrival
	begun bool // the arrival is here
}

func (l *late) Read(b []byte) (int, error) {
	if !l.begun {
		if len(b) == 0 {
			return 0, nil
		}
		l.first, l.begun = <-l.tap.got, true
	}
	if len(l.first.octets) > 0 {
		n := copy(b, l.first.octets)
		l.first.octets = l.first.octets[n:]
		return n, nil
	}
	if l.first.err != nil {
		return 0, l.first.err
	}
	return l.Stream.Read(b)
}

func (l *late) Close() error {
	err := l.Stream.Close()
	l.tap.running.Wait()
	return err
}

// lateHalves is late for a Stream whose ways end one by one.
type lateHalves struct {
	*late
	halves carrier.CloseWriter
}

func (l *lateHalves) CloseWrite() error { return l.halves.CloseWrite() }
