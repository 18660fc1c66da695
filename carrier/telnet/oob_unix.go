//go:build unix

package telnet

import (
	"io"
	"syscall"
)

// oobInline has a socket leave urgent data in the stream (SO_OOBINLINE). Without it
// the kernel takes one octet out of telnet's IAC DM, and the next octet of data would
// pass for the rest of the command.
func oobInline(rwc io.ReadWriteCloser) {
	s, ok := rwc.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1)
		})
	}
}
