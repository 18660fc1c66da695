package ssh

import (
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/carrier"
)

// hand returns s as a socket that ssh can take, and what ends the octets' way
// between the two: the socket itself, where s is a TCP connection and nothing more,
// else one end of a pair that is joined to s.
func hand(s carrier.Stream) (*os.File, func(), error) {
	if c, ok := s.ReadWriteCloser.(interface{ File() (*os.File, error) }); ok {
		file, err := c.File()
		s.Close()
		return file, func() {}, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.Close()
		return nil, nil, fmt.Errorf("ssh: a pair of sockets: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ssh's way"), os.NewFile(uintptr(fds[1]), "ssh's socket")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		s.Close()
		theirs.Close()
		return nil, nil, fmt.Errorf("ssh: a pair of sockets: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		carrier.Join(ctx, carrier.Stream{ReadWriteCloser: conn.(*net.UnixConn)}, s)
	}()
	return theirs, func() { cancel(); <-joined }, nil
}
