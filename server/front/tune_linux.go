package front

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many octets may wait in the kernel that TCP has not sent yet: two
// super-packets, as measured in carrier/tcp.
const maxUnsent = 128 << 10

// tune keeps the queue of a slow connection on our side of the socket. Connections have
// it from their listener.
func tune(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}
