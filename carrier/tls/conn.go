package tls

import (
	cryptotls "crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// closeTime is how long Close may take: for a goodbye that the peer does not read, and
// for an end that the peer does not make.
const closeTime = time.Second

// A conn is the ReadWriteCloser of a Stream inside TLS.
type conn struct {
	tls  *cryptotls.Conn
	wire *wire

	// strict: an end without a goodbye is no orderly end.
	strict bool

	mu      sync.Mutex   // one writer at a time
	plain   []byte       // part of a record, gathered from small buffers
	writing atomic.Int32 // calls of Write and WriteBuffers

	reading sync.Mutex // one reader at a time
	heard   bool       // the peer's end was read: nothing comes after it

	closed  atomic.Bool
	damaged atomic.Pointer[damagedError] // what Read met
	shut    atomic.Bool                  // the goodbye is on its way
	ending  sync.Once                    // starts it
	ended   chan struct{}                // closed when it is out, or cannot be
}

// newConn makes a Stream of a connection whose handshake is done.
func newConn(t *cryptotls.Conn, w *wire, strict bool) carrier.Stream {
	w.gather()
	c := &conn{tls: t, wire: w, strict: strict, ended: make(chan struct{})}
	return carrier.Stream{ReadWriteCloser: c, Socket: w.below.Socket}
}

// Read returns what was proved to be the peer's own, up to 16 KiB of it. io.EOF is the
// peer's goodbye. If the way ends without one the error wraps io.ErrUnexpectedEOF, or is
// what the Stream below says of it; and ErrDamaged if what came is not what was sent.
func (c *conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	n, err := c.tls.Read(b)
	for err == nil && c.closed.Load() { // for nobody, but see drain
		n, err = c.tls.Read(b)
	}
	if err == nil {
		return n, nil
	}
	a, isAlert := alertIn(err)
	err = c.failure(err)
	var damaged *damagedError
	if errors.As(err, &damaged) {
		c.damaged.Store(damaged)
		c.endWrites() // takes the alert along
	}
	c.heard = damaged == nil || isAlert && !a.ours
	return n, err
}

// Write writes b in records of 16 KiB, four of them in one Write below.
func (c *conn) Write(b []byte) (n int, err error) {
	if err := c.lock(); err != nil {
		return 0, err
	}
	defer c.unlock()
	for sent := 0; ; {
		m := min(len(b)-sent, maxRecord)
		flushed, err := c.record(b[sent:sent+m], sent+m == len(b))
		sent += m
		switch {
		case err != nil:
			return n, err
		case flushed:
			n = sent
		}
		if sent == len(b) {
			return n, nil
		}
	}
}

// WriteBuffers writes the buffers in their order, in records as full as can be, as
// Write does.
func (c *conn) WriteBuffers(buffers net.Buffers) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.unlock()
	c.plain = c.plain[:0]
	for _, b := range buffers {
		for len(b) > 0 {
			if len(c.plain) == 0 && len(b) >= maxRecord { // as it lies there
				if _, err := c.record(b[:maxRecord], false); err != nil {
					return err
				}
				b = b[maxRecord:]
				continue
			}
			n := min(len(b), maxRecord-len(c.plain))
			c.plain = append(c.plain, b[:n]...)
			b = b[n:]
			if len(c.plain) == maxRecord {
				if _, err := c.record(c.plain, false); err != nil {
					return err
				}
				c.plain = c.plain[:0]
			}
		}
	}
	_, err := c.record(c.plain, true)
	return err
}

// lock makes the caller the only writer until unlock, or says why nobody writes any more.
func (c *conn) lock() error {
	if err := c.over(); err != nil {
		return err
	}
	c.writing.Add(1)
	c.mu.Lock()
	if err := c.over(); err != nil {
		c.unlock()
		return err
	}
	return nil
}

// over returns why nothing more is to be written.
func (c *conn) over() error {
	switch damaged := c.damaged.Load(); {
	case c.closed.Load():
		return net.ErrClosed
	case damaged != nil:
		return damaged
	case c.shut.Load():
		return errShut
	}
	return nil
}

var errShut = errors.New("tls: writing after CloseWrite")

func (c *conn) unlock() {
	c.mu.Unlock()
	c.writing.Add(-1)
}

// record queues one record, and flushes if it is the last or the queue is full.
func (c *conn) record(b []byte, last bool) (flushed bool, err error) {
	if len(b) > 0 {
		if _, err := c.tls.Write(b); err != nil {
			return false, c.failure(err)
		}
	}
	if !last && !c.wire.full() {
		return false, nil
	}
	if err := c.wire.flush(); err != nil {
		return false, c.failure(err)
	}
	return true, nil
}

// CloseWrite says goodbye to the peer, whose Read meets io.EOF; ours goes on (RFC 8446,
// section 6.1). It does not wait for a peer that reads nothing.
func (c *conn) CloseWrite() error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.endWrites()
	return nil
}

// endWrites sends the goodbye, once, after what is being written. Close waits for it.
func (c *conn) endWrites() {
	c.shut.Store(true)
	c.ending.Do(func() {
		go func() {
			defer close(c.ended)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tls.CloseWrite() // fails if an alert has gone instead
			c.wire.flush()
		}()
	})
}

// Close says goodbye, waits for the peer's end, and closes the Stream below. A peer that
// reads nothing, or goes on, holds it up for a second at most, and a Write that is under
// way not at all: that is given up.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		<-c.ended
		return nil
	}
	busy := c.writing.Load() > 0
	c.endWrites()
	if !busy {
		late := time.AfterFunc(closeTime, func() { c.wire.below.Close() })
		<-c.ended
		c.drain()
		late.Stop()
	}
	err := c.wire.below.Close()
	<-c.ended
	return err
}

// Abort closes the Stream below, and says nothing to the peer.
func (c *conn) Abort() error {
	c.closed.Store(true)
	err := c.wire.below.GiveUp()
	c.endWrites()
	<-c.ended
	return err
}

// drain reads what still comes, for nobody. A connection that is closed with octets
// unread is reset, and a reset overtakes the goodbye, or the alert that says what was
// wrong. It ends with the peer's goodbye or end, or when the Stream below is closed.
func (c *conn) drain() {
	if w, ok := c.wire.below.ReadWriteCloser.(carrier.CloseWriter); ok {
		w.CloseWrite()
	}
	c.reading.Lock() // a Read that waits goes on to the end
	defer c.reading.Unlock()
	var from io.Reader = c.tls
	if c.damaged.Load() != nil {
		from = c.wire.below
	}
	if !c.heard {
		io.Copy(io.Discard, from)
	}
}

var _ interface {
	carrier.Aborter
	carrier.BuffersWriter
	carrier.CloseWriter
} = (*conn)(nil)
