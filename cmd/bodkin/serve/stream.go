package serve

import (
	"errors"
	"net"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/server/front"
)

// streamOf makes a Stream of a connection, which it owns.
func streamOf(c net.Conn) carrier.Stream { return carrier.Stream{ReadWriteCloser: conn{c}} }

// socketOf returns what the kernel knows of a client's connection; nil where the client
// may not be at its other end: what comes from this machine is a web server's that stands
// before us, or in no need of that.
func socketOf(c *front.Conn) carrier.Socket {
	if a := addressOf(c.RemoteAddr()); !a.IsValid() || a.IsLoopback() {
		return nil
	}
	return tcp.SocketOf(c.Conn, "")
}

type conn struct{ net.Conn }

// WriteBuffers writes the buffers in one system call, where the connection is one of the
// system's own.
func (c conn) WriteBuffers(buffers net.Buffers) error {
	if len(buffers) == 0 {
		return nil
	}
	_, err := buffers.WriteTo(c.Conn)
	return err
}

// CloseWrite ends what we send, where the connection can.
func (c conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection. Closing again is no error.
func (c conn) Close() error {
	if err := c.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

var _ interface {
	carrier.BuffersWriter
	carrier.CloseWriter
} = conn{}
