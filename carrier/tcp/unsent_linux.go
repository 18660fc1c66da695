package tcp

import (
	"net"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many octets may wait in the kernel that TCP has not sent yet.
const maxUnsent = 128 << 10

// limitUnsent keeps the queue of a slow connection on our side of the socket,
// where a small packet can still overtake a large one.
func limitUnsent(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
		})
	}
}
