// Package tcp carries a Stream over one TCP connection, with nothing around it:
// no encryption, no authentication. It is the ground under carriers that bring
// their own, and what a benchmark compares them with.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// keepAlive finds a peer that died in silence within 15 + 3*10 seconds.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// Control is called with a socket before it is bound or connected, as in
// net.Dialer: the place to mark it.
type Control func(network, address string, raw syscall.RawConn) error

// A Congestion is the congestion control of a socket by the kernel's name for it (tcp(7),
// TCP_CONGESTION), such as "cubic". The zero value is one that goes by loss until segments
// are lost without a queue, and BBR from then on, as far as the kernel has them and lets
// us. It rules what this side sends.
type Congestion string

// System leaves a socket the congestion control that the system, or the route, has for
// all.
const System Congestion = "system"

// Control sets up a socket as those are that Dial and Listen make: a Control for
// listeners and dialers of others, which do not use Multipath TCP. It does not mind sockets that are not TCP's, unless c
// has a name.
func (c Congestion) Control(_, _ string, raw syscall.RawConn) error { return tune(raw, c) }

// A Dialer says how to connect. The zero value is ready for use.
type Dialer struct {
	Control    Control // may be nil
	Congestion Congestion
}

// Dial is Dialer's with this control, which may be nil.
func Dial(ctx context.Context, address string, control Control) (carrier.Stream, error) {
	return Dialer{Control: control}.Dial(ctx, address)
}

// Dial connects to address, "host:port", each address of the host in turn until ctx
// ends. It fails if the kernel does not have, or does not let us have, a Congestion
// that has a name.
func (d Dialer) Dial(ctx context.Context, address string) (carrier.Stream, error) {
	dialer := net.Dialer{KeepAliveConfig: keepAlive, Control: func(network, address string, raw syscall.RawConn) error {
		if err := tune(raw, d.Congestion); err != nil || d.Control == nil {
			return err
		}
		return d.Control(network, address, raw)
	}}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return carrier.Stream{}, fmt.Errorf("tcp: %w", err)
	}
	return newStream(c.(*net.TCPConn), d.Congestion), nil
}

// A Listener accepts connections.
type Listener struct {
	l          *net.TCPListener
	congestion Congestion
}

// A ListenConfig says how to listen. The zero value is ready for use.
type ListenConfig struct {
	Congestion Congestion // of what is accepted
}

// Listen is ListenConfig's.
func Listen(ctx context.Context, address string) (*Listener, error) {
	return ListenConfig{}.Listen(ctx, address)
}

// Listen listens on address, "host:port"; port 0 means any that is free. It fails for the
// same Congestion as Dialer.Dial.
func (c ListenConfig) Listen(ctx context.Context, address string) (*Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive, Control: c.Congestion.Control}
	config.SetMultipathTCP(false) // its sockets do not have all from their listener
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	return &Listener{l.(*net.TCPListener), c.Congestion}, nil
}

// Accept waits for the next connection. After Close it returns net.ErrClosed.
func (l *Listener) Accept() (carrier.Stream, error) {
	c, err := l.l.AcceptTCP()
	if err != nil {
		return carrier.Stream{}, fmt.Errorf("tcp: %w", err)
	}
	return newStream(c, l.congestion), nil
}

// Addr returns where it listens.
func (l *Listener) Addr() net.Addr { return l.l.Addr() }

// Close stops listening. Streams that were accepted live on.
func (l *Listener) Close() error { return l.l.Close() }

// conn is the ReadWriteCloser of a TCP connection.
type conn struct {
	*net.TCPConn
	chosen Congestion
}

// Watch returns what tells of the connection as SocketOf's does, also once c is closed and
// another program has it (File), until it is closed itself, by release. It may be nil.
func (c conn) Watch() (watch carrier.Socket, release func()) { return watchCopy(c.TCPConn, c.chosen) }

// newStream takes over c. TCP_NODELAY is net's default.
func newStream(c *net.TCPConn, chosen Congestion) carrier.Stream {
	return carrier.Stream{ReadWriteCloser: conn{c, chosen}, Socket: SocketOf(c, chosen)}
}

// WriteBuffers writes the buffers with as few system calls as writev(2) allows.
func (c conn) WriteBuffers(buffers net.Buffers) error {
	if len(buffers) == 0 {
		return nil
	}
	_, err := buffers.WriteTo(c.TCPConn)
	return err
}

// Close closes the connection. What was written still goes out. Closing again is
// no error.
func (c conn) Close() error {
	if err := c.TCPConn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

var _ interface {
	io.ReadWriteCloser
	carrier.BuffersWriter
} = conn{}
