package netstack

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the data path, none of which ever waits. So the scheduler is not
// told of them: a process that was idle would else first wake the runtime's
// monitor thread, which costs a packet alone on its way some 40 microseconds, and
// a busy one would hand its processor to and fro. Each is made again when a signal
// interrupts it; b holds an octet at least where it has no length of its own.

// asError is an errno as an error, nil for none.
func asError(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// base is where b begins, or nil.
func base(b []byte) unsafe.Pointer {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Pointer(&b[0])
}

// read reads from a non-blocking socket.
func read(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(base(b)), uintptr(len(b)))
		if errno != unix.EINTR {
			return int(n), asError(errno)
		}
	}
}

// write writes to a socket what it takes at once.
func write(fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(base(b)), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), asError(errno)
		}
	}
}

// peek returns how many octets wait at a socket, up to peekSize, without copying
// any; 0 is the end. One call tells what FIONREAD and a read would.
func peek(fd int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, peekSize, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), asError(errno)
		}
	}
}
