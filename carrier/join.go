package carrier

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// joinBuffer is what Join holds at most, in octets each way: what one read of a busy
// Stream finds. More would be a longer queue in front of a ping.
const joinBuffer = 64 << 10

// quietTime is how long one way of a joined pair may carry nothing, once the other
// has ended, before the session is over: a Stream's last words come sooner.
const quietTime = time.Second

// A CloseWriter is what a Stream's ReadWriteCloser may be besides: one whose two ways
// end one by one, as those of TCP and of a pair of pipes do and those of a tty do not.
type CloseWriter interface {
	// CloseWrite ends what we write, as the peer's Read will say by io.EOF. Read goes
	// on. It comes after the last Write.
	CloseWrite() error
}

// An EndError says which of two joined Streams ended the session, and how.
type EndError struct {
	Second bool  // it was Join's b, not its a
	Err    error // what that Stream's Read, or Write, returned; io.EOF: it ended in order
}

func (e *EndError) Error() string { return e.Err.Error() }
func (e *EndError) Unwrap() error { return e.Err }

// Join carries octets between a and b, both ways at once and in order, until one of
// them ends or ctx does. It closes both before it returns, at the same time. What it
// returns is never nil: an *EndError, or the cause of ctx's end.
//
// What was read from a Stream before its end is written to the other first. An end
// that its Read met in order, on a Stream with CloseWrite, is one way's end only: it
// is passed on by CloseWrite, and the other way goes on until it ends too, which is
// then what counts. If the other Stream has no CloseWrite to pass it on by, or if a
// Stream takes no more, what comes back from it is still carried until it ends or is
// quiet for a second. Any other end is the session's.
func Join(ctx context.Context, a, b Stream) error {
	there, back := startWay(a, b, false), startWay(b, a, true)
	defer func() {
		var closing sync.WaitGroup
		closing.Go(func() { a.Close() })
		closing.Go(func() { b.Close() })
		closing.Wait()
		<-there.ended
		<-back.ended
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-there.ended:
		return there.last(ctx, back)
	case <-back.ended:
		return back.last(ctx, there)
	}
}

// A way carries octets from one Stream to another, in a goroutine.
type way struct {
	from, to Stream
	moved    atomic.Int64  // octets written
	ended    chan struct{} // closed at the end; valid then:
	end      EndError
	refused  bool // the end is that to took no more
}

func startWay(from, to Stream, second bool) *way {
	w := &way{from: from, to: to, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		err, refused := w.carry()
		w.end, w.refused = EndError{second != refused, err}, refused
	}()
	return w
}

func (w *way) carry() (err error, refused bool) {
	buf := make([]byte, joinBuffer)
	for {
		n, err := w.from.Read(buf)
		if n > 0 {
			if _, err := w.to.Write(buf[:n]); err != nil {
				return err, true
			}
			w.moved.Add(int64(n))
		}
		if err != nil {
			return err, false
		}
	}
}

// last lets the other way carry what it still may, now that w has ended first, and
// returns why the session ended.
func (w *way) last(ctx context.Context, other *way) error {
	_, halves := w.from.ReadWriteCloser.(CloseWriter)
	oneWay := halves && !w.refused && errors.Is(w.end.Err, io.EOF)
	to, passes := w.to.ReadWriteCloser.(CloseWriter)
	switch {
	case oneWay && passes && to.CloseWrite() == nil:
		select {
		case <-other.ended:
			return &other.end
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	case oneWay:
		if other.carriesOn(ctx) {
			return &other.end
		}
	case w.refused:
		other.carriesOn(ctx)
	}
	return &w.end
}

// carriesOn waits until the way ends, and reports that, or is quiet.
func (w *way) carriesOn(ctx context.Context) (ended bool) {
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	for {
		before := w.moved.Load()
		select {
		case <-w.ended:
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
			if w.moved.Load() == before {
				return false
			}
		}
	}
}
