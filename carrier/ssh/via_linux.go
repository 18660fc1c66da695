package ssh

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
)

// A socket is a Stream's ReadWriteCloser that is a TCP connection and nothing more.
type socket interface {
	File() (*os.File, error)
	Watch() (watch carrier.Socket, release func())
}

// hand returns s as a socket that ssh can take: the socket itself, where s is one,
// else one end of a pair that is joined to s.
func hand(s carrier.Stream) (handed, error) {
	if c, ok := s.ReadWriteCloser.(socket); ok {
		defer s.Close()
		file, err := c.File()
		if err != nil {
			return handed{}, err
		}
		watch, release := c.Watch()
		return handed{file, watch, release}, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.Close()
		return handed{}, fmt.Errorf("ssh: a pair of sockets: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ssh's way"), os.NewFile(uintptr(fds[1]), "ssh's socket")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		s.Close()
		theirs.Close()
		return handed{}, fmt.Errorf("ssh: a pair of sockets: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		carrier.Join(ctx, carrier.Stream{ReadWriteCloser: conn.(*net.UnixConn)}, s)
	}()
	return handed{theirs, s.Socket, func() { cancel(); <-joined }}, nil
}
