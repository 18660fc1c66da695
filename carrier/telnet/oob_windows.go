package telnet

import (
	"io"
	"syscall"
)

// soOOBInline is SO_OOBINLINE of winsock2.h, which syscall does not name.
const soOOBInline = 0x0100

// oobInline has a socket leave urgent data in the stream (SO_OOBINLINE). Without it
// the system takes one octet out of telnet's IAC DM, and the next octet of data would
// pass for the rest of the command.
func oobInline(rwc io.ReadWriteCloser) {
	s, ok := rwc.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(syscall.Handle(fd), syscall.SOL_SOCKET, soOOBInline, 1)
		})
	}
}
