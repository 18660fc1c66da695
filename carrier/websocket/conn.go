package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	library "github.com/coder/websocket"

	"github.com/bodkin-net/bodkin/carrier"
)

// patientRead is what is asked of a message that has not come yet, in octets: the
// library returns from a read when it has all it was asked for, so that more would hold
// back, on a slow way, what is there.
const patientRead = 512

// A conn is the ReadWriteCloser of a Stream over WebSocket.
type conn struct {
	ws   *library.Conn
	wire *wire

	reading sync.Mutex // one reader at a time
	message io.Reader  // what is left of the message that is being read; may be nil

	mu      sync.Mutex   // one writer at a time
	plain   []byte       // part of a message, gathered from small buffers
	writing atomic.Int32 // calls of Write and WriteBuffers
	wrote   atomic.Bool  // since the last tick of keepAlive

	closed atomic.Bool
	once   sync.Once
	err    error // of Close
	code   atomic.Int64
	over   context.Context // ends with Close
	end    context.CancelFunc
	keeper sync.WaitGroup
}

// newConn makes a Stream of a connection that was opened over w.
func newConn(ws *library.Conn, w *wire) carrier.Stream {
	ws.SetReadLimit(maxIncoming)
	c := &conn{ws: ws, wire: w}
	c.code.Store(int64(library.StatusNormalClosure))
	c.over, c.end = context.WithCancel(context.Background())
	c.keeper.Go(c.keepAlive)
	return carrier.Stream{ReadWriteCloser: c, Rate: w.below.Rate, Socket: w.below.Socket}
}

// keepAlive sends a Ping whenever nothing was written for a while, so that no proxy
// takes the connection for idle. It does not judge: whether the peer is there is for
// those above to find out.
func (c *conn) keepAlive() {
	tick := time.NewTicker(idleTime)
	defer tick.Stop()
	for {
		select {
		case <-c.over.Done():
			return
		case <-tick.C:
		}
		if c.wrote.Swap(false) {
			continue
		}
		ctx, cancel := context.WithTimeout(c.over, idleTime)
		c.ws.Ping(ctx) // waits for the Pong, which only a Read meets
		cancel()
	}
}

// Read returns part of a message, as soon as there is some. io.EOF is the peer's Close
// frame; an end without one wraps io.ErrUnexpectedEOF, or is what the Stream below says.
func (c *conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if c.closed.Load() {
			return 0, net.ErrClosed
		}
		if c.message == nil {
			kind, r, err := c.ws.Reader(context.Background())
			if err != nil {
				return 0, c.failure(err)
			}
			if kind != library.MessageBinary {
				c.code.Store(int64(library.StatusUnsupportedData))
				return 0, errors.New("websocket: the peer sent a message of text")
			}
			c.message = r
		}
		n, err := c.message.Read(b[:min(len(b), max(patientRead, int(c.wire.ready.Load())))])
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if err != nil {
			return n, c.failure(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Write writes b in messages of 64 KiB, each in one Write below.
func (c *conn) Write(b []byte) (n int, err error) {
	if err := c.lock(); err != nil {
		return 0, err
	}
	defer c.unlock()
	for n < len(b) {
		m := min(len(b)-n, maxMessage)
		if err := c.send(b[n : n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// WriteBuffers writes the buffers in their order, in messages as full as can be. Small
// ones are gathered first: the copy costs less than a frame for each.
func (c *conn) WriteBuffers(buffers net.Buffers) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.unlock()
	c.plain = c.plain[:0]
	for _, b := range buffers {
		for len(b) > 0 {
			if len(c.plain) == 0 && len(b) >= maxMessage { // as it lies there
				if err := c.send(b[:maxMessage]); err != nil {
					return err
				}
				b = b[maxMessage:]
				continue
			}
			n := min(len(b), maxMessage-len(c.plain))
			c.plain = append(c.plain, b[:n]...)
			b = b[n:]
			if len(c.plain) == maxMessage {
				if err := c.send(c.plain); err != nil {
					return err
				}
				c.plain = c.plain[:0]
			}
		}
	}
	if len(c.plain) == 0 {
		return nil
	}
	return c.send(c.plain)
}

// lock makes the caller the only writer until unlock, or says that nobody writes any
// more.
func (c *conn) lock() error {
	c.writing.Add(1)
	c.mu.Lock()
	if c.closed.Load() {
		c.unlock()
		return net.ErrClosed
	}
	return nil
}

func (c *conn) unlock() {
	c.mu.Unlock()
	c.writing.Add(-1)
}

// send sends one message.
func (c *conn) send(b []byte) error {
	c.wrote.Store(true)
	c.wire.gather()
	err := c.ws.Write(context.Background(), library.MessageBinary, b)
	if below := c.wire.flush(); err == nil {
		err = below
	}
	if err == nil {
		return nil
	}
	err = c.failure(err)
	if carrier.IsClosed(err) && !c.closed.Load() { // the library has answered a Close frame
		err = errors.New("websocket: the peer has ended the connection")
	}
	return err
}

// Close says goodbye, waits for the peer's, and closes the Stream below. A peer that
// reads nothing, or goes on, holds it up for a second at most, and a Write that is under
// way not at all: that is given up.
func (c *conn) Close() error {
	c.closed.Store(true)
	c.once.Do(func() {
		c.end()
		if c.writing.Load() > 0 {
			c.wire.below.Close()
			c.ws.CloseNow()
		} else {
			late := time.AfterFunc(closeTime, func() { c.wire.below.Close() })
			c.ws.Close(library.StatusCode(c.code.Load()), "") // its error is the peer's manners
			late.Stop()
		}
		c.err = c.wire.Close()
		c.keeper.Wait()
	})
	return c.err
}

// Abort closes the Stream below, and says nothing to the peer.
func (c *conn) Abort() error {
	c.closed.Store(true)
	c.once.Do(func() {
		c.end()
		c.wire.below.GiveUp()
		c.ws.CloseNow()
		c.err = c.wire.Close()
		c.keeper.Wait()
	})
	return c.err
}

// failure says in words what the library returned.
func (c *conn) failure(err error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	var goodbye library.CloseError
	if errors.As(err, &goodbye) {
		switch goodbye.Code {
		case library.StatusNormalClosure, library.StatusGoingAway:
			return io.EOF
		}
		return fmt.Errorf("websocket: the peer ended the connection: %d %q", goodbye.Code, carrier.Printable(goodbye.Reason))
	}
	switch end := c.wire.ended(); {
	case end == nil:
		return fmt.Errorf("websocket: %w", err)
	case end == errCut, carrier.IsClosed(end): // the Stream below, which we have not closed
		return fmt.Errorf("websocket: %w: %w", errCut, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("websocket: %w", end)
	}
}

var _ carrier.BuffersWriter = (*conn)(nil)
