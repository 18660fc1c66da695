package tun

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writev writes the two buffers with one system call. It stands in for
// unix.Writev, which makes a slice of vectors at every call.
func writev(fd uintptr, vector *[2]unix.Iovec) syscall.Errno {
	_, _, err := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vector[0])), uintptr(len(vector)))
	return err
}
