package websocket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// readAhead is what one Read below takes at most, in octets: one system call for a
	// message, where the library alone makes one for each 4 KiB.
	readAhead = 64 << 10

	// maxQueue is what may wait behind a Write below that the peer does not take, in
	// octets: one message of ours, and Pongs, of at most 131 octets each.
	maxQueue = 2 * maxMessage

	// maxHead is how much of what came first is kept for an error, in octets.
	maxHead = 64
)

// A wire is the Stream below as net/http and the library want it: a net.Conn whose
// Write queues and never waits. Control frames go out at once, in a goroutine; a data
// frame, which the library writes in pieces of 4 KiB, in one Write below. So a Pong that a
// Read owes is not stuck behind a message that the peer does not take, for which the
// library has five seconds and then gives up the connection.
type wire struct {
	below carrier.Stream
	in    *bufio.Reader // one goroutine reads at a time
	ready atomic.Int64  // octets in in

	flushers sync.WaitGroup

	mu       sync.Mutex
	flushed  *sync.Cond // flushing has become false
	queue    []byte     // what goes down next
	spare    []byte     // the buffer that went down last
	gathers  bool       // a message is being written: wait for its end
	flushing bool       // a goroutine writes below
	closed   bool
	head     []byte // the first octets that came
	inErr    error  // what the Stream below ended with
	outErr   error
}

// newWire makes a wire of below. read was read from it already.
func newWire(below carrier.Stream, read []byte) *wire {
	w := &wire{below: carrier.Unread(below, read)}
	w.in = bufio.NewReaderSize(w.below, readAhead)
	w.flushed = sync.NewCond(&w.mu)
	return w
}

// errCut is an end of the Stream below, which is io.EOF there and not here: only a Close
// frame is an orderly end (RFC 6455, section 7.1.5).
var errCut = errors.New("the way ended in the middle")

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.in.Read(b)
	w.ready.Store(int64(w.in.Buffered()))
	if len(w.head) < maxHead || err != nil {
		w.mu.Lock()
		w.head = append(w.head, b[:min(n, maxHead-len(w.head))]...)
		if err == io.EOF {
			err = errCut
		}
		w.inErr = err
		w.mu.Unlock()
	}
	return n, err
}

// errStranded ends a connection whose peer asks for Pongs all the time and reads nothing.
var errStranded = errors.New("the peer asks much and reads nothing")

// Write queues b, which goes down at once if it is no part of a message.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.outErr != nil:
		return 0, w.outErr
	case w.closed:
		return 0, net.ErrClosed
	case len(w.queue)+len(b) > maxQueue:
		w.outErr = errStranded
		return 0, errStranded
	}
	w.queue = append(w.queue, b...)
	if !w.gathers && !w.flushing {
		w.flushing = true
		w.flushers.Go(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.drain()
		})
	}
	return len(b), nil
}

// gather begins a message: what is written waits for flush.
func (w *wire) gather() {
	w.mu.Lock()
	w.gathers = true
	w.mu.Unlock()
}

// flush ends a message. It returns when all that is queued has gone down.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gathers = false
	for w.flushing {
		w.flushed.Wait()
	}
	w.flushing = true
	w.drain()
	return w.outErr
}

// drain writes what is queued, and ends flushing. The caller holds mu, and has begun
// flushing.
func (w *wire) drain() {
	for len(w.queue) > 0 && w.outErr == nil {
		out := w.queue
		w.queue = w.spare[:0]
		w.mu.Unlock()
		_, err := w.below.Write(out)
		w.mu.Lock()
		w.spare = out
		if w.outErr == nil {
			w.outErr = err
		}
	}
	w.flushing = false
	w.flushed.Broadcast()
}

// Close closes the Stream below once what is queued has gone down, for which it waits a
// second at most.
func (w *wire) Close() error {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.mu.Unlock()
	if first {
		late := time.AfterFunc(closeTime, func() { w.below.Close() })
		w.flush()
		late.Stop()
	}
	err := w.below.Close()
	w.flushers.Wait()
	return err
}

// ended returns what the Stream below ended with, reading first; nil: it has not.
func (w *wire) ended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inErr != nil {
		return w.inErr
	}
	return w.outErr
}

// began returns the first octets that came.
func (w *wire) began() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.head)
}

// A Stream has neither deadlines nor addresses: Close wakes it.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) LocalAddr() net.Addr              { return address{} }
func (w *wire) RemoteAddr() net.Addr             { return address{} }

type address struct{}

func (address) Network() string { return "stream" }
func (address) String() string  { return "stream" }
