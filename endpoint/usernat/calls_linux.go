package usernat

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

// receive takes one message from a connected socket, or from its error queue.
func receive(fd int, data, control []byte, flags int) (n, controlLen int, err error) {
	var m unix.Msghdr
	var v unix.Iovec
	setMessage(&m, &v, data, control)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), uintptr(flags|unix.MSG_DONTWAIT))
		if errno != unix.EINTR {
			return int(n), int(m.Controllen), asError(errno)
		}
	}
}

// send sends one message on a connected socket.
func send(fd int, data, control []byte) error {
	var m unix.Msghdr
	var v unix.Iovec
	setMessage(&m, &v, data, control)
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if errno != unix.EINTR {
			return asError(errno)
		}
	}
}

func setMessage(m *unix.Msghdr, v *unix.Iovec, data, control []byte) {
	v.Base = (*byte)(base(data))
	v.SetLen(len(data))
	m.Iov = v
	m.SetIovlen(1)
	m.Control = (*byte)(base(control))
	m.SetControllen(len(control))
}

// epollNow returns what is ready now.
func epollNow(epoll uintptr, events []unix.EpollEvent) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if errno != unix.EINTR {
			return int(n), asError(errno)
		}
	}
}
