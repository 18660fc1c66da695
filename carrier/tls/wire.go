package tls

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// maxRecord is what one record carries, in octets (RFC 8446, section 5.1).
	maxRecord = 1 << 14

	// maxQueue is what goes down in one Write, in octets: four records, for one system
	// call costs as much as enciphering one. More would be a queue in front of a ping.
	maxQueue = 4 * (maxRecord + 256)

	// maxStranded is how much may wait behind a Write that the peer does not take, in
	// octets: answers to the peer's own changes of keys, some 30 octets each.
	maxStranded = 2 * maxQueue

	// readAhead is what one Read below takes at most, in octets: one system call for
	// four records, where crypto/tls alone makes one for each.
	readAhead = 64 << 10

	// maxHead is how much of what came first is kept for an error, in octets.
	maxHead = 64
)

// A wire is the Stream below as crypto/tls wants it. In the handshake it writes what it
// is given. After gather it only queues, never waits, and flush writes: so an alert that
// a Read finds cause for is never stuck behind a Write that the peer does not take.
type wire struct {
	below carrier.Stream
	in    *bufio.Reader

	// Of the handshake.
	head []byte // the first octets
	got  int64  // octets read

	gathers bool // the handshake is done

	mu            sync.Mutex
	queue         []byte
	inErr, outErr error // what the Stream below ended with
}

func newWire(s carrier.Stream) *wire {
	return &wire{below: s, in: bufio.NewReaderSize(s, readAhead)}
}

// errCut is an end of the Stream below, which is io.EOF there and not here: only TLS's
// own goodbye is an orderly end (RFC 8446, section 6.1).
var errCut = errors.New("the way ended in the middle")

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.in.Read(b)
	if !w.gathers {
		w.head = append(w.head, b[:min(n, maxHead-len(w.head))]...)
		w.got += int64(n)
	}
	if err == io.EOF {
		err = errCut
	}
	if err != nil {
		w.mu.Lock()
		w.inErr = err
		w.mu.Unlock()
	}
	return n, err
}

// errStranded ends a connection whose peer changes keys all the time and reads nothing.
var errStranded = errors.New("tls: the peer asks much and reads nothing")

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outErr != nil {
		return 0, w.outErr
	}
	if !w.gathers { // there is one goroutine yet
		n, err := w.below.Write(b)
		w.outErr = err
		return n, err
	}
	if len(w.queue)+len(b) > maxStranded {
		return 0, errStranded
	}
	w.queue = append(w.queue, b...)
	return len(b), nil
}

// gather ends the handshake: all that follows is queued until flush. Nothing else is
// called at the same time.
func (w *wire) gather() { w.gathers = true }

// came says how much of the handshake came, and what it was if it was no TLS.
func (w *wire) came() string {
	n := fmt.Sprintf("%d octets", w.got)
	if w.got == 1 {
		n = "1 octet"
	}
	if w.got > 0 && !looksLikeTLS(w.head) {
		n += fmt.Sprintf(", %q", carrier.Printable(string(w.head)))
	}
	return n
}

// full reports whether another record may not find room any more.
func (w *wire) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > maxQueue-maxRecord-256
}

// flush writes what is queued, in one Write below. One goroutine at a time calls it.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.outErr != nil || len(w.queue) == 0 {
		return w.outErr
	}
	out := w.queue
	w.queue = nil
	w.mu.Unlock()
	_, err := w.below.Write(out)
	w.mu.Lock()
	w.outErr = err
	w.queue = append(out[:0], w.queue...) // one large buffer for good
	return err
}

func (w *wire) Close() error { return w.below.Close() }

// A Stream has neither deadlines nor addresses: Close wakes it.
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) LocalAddr() net.Addr              { return address{} }
func (w *wire) RemoteAddr() net.Addr             { return address{} }

type address struct{}

func (address) Network() string { return "stream" }
func (address) String() string  { return "stream" }
