package command

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A caller makes the system calls of a file, and knows whether they may wait. On
// a non-blocking file they never do, so the scheduler need not be told: a process
// that was idle would else first wake the runtime's monitor thread, which costs a
// packet alone on its way some 40 microseconds.
type caller struct{ neverWaits bool }

func callerOf(file *os.File) caller {
	raw, err := file.SyscallConn()
	if err != nil {
		return caller{}
	}
	var flags int
	cerr := raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	return caller{cerr == nil && err == nil && flags&unix.O_NONBLOCK != 0}
}

// read reads into b, which is not empty.
func (c caller) read(fd uintptr, b []byte) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	if c.neverWaits {
		n, _, errno = unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	} else {
		n, _, errno = unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	}
	return int(n), errno
}

// writev writes the buffers, of which there is one at least.
func (c caller) writev(fd uintptr, iovecs []unix.Iovec) (int, syscall.Errno) {
	var n uintptr
	var errno syscall.Errno
	if c.neverWaits {
		n, _, errno = unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iovecs[0])), uintptr(len(iovecs)))
	} else {
		n, _, errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&iovecs[0])), uintptr(len(iovecs)))
	}
	return int(n), errno
}
