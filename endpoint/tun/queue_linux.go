package tun

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The queue is non-blocking, so its system calls are made without telling the
// scheduler: they never wait, and a process that was idle would else first wake
// the runtime's monitor thread, which costs a packet alone on its way some 40
// microseconds.

// read reads one packet with its header into b.
func read(fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, err := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), err
}

// writev writes the two buffers as one packet.
func writev(fd uintptr, vector *[2]unix.Iovec) syscall.Errno {
	_, _, err := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vector[0])), uintptr(len(vector)))
	return err
}
