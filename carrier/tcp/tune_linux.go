package tcp

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many octets may wait in the kernel that TCP has not sent yet.
// Measured on loopback with writes of 120 KiB: 16 KiB gives 35 Gb/s and 0.27 CPU
// seconds per GB, 64 and 128 KiB 59 and 0.16, 1 MiB 42 and 0.23, no bound 36 and
// 0.27: what is still in the cache costs less. 128 KiB holds two super-packets. It
// keeps the queue of a slow connection on our side of the socket, where a small
// packet can still overtake a large one.
const maxUnsent = 128 << 10

// bbr is what is chosen where nothing is said. A tunnel is one connection for all that
// is inside: where each lost packet halves its rate, one percent of loss leaves 3 of 100
// Mbit/s. BBR goes by the rate that arrives (draft-cardwell-iccrg-bbr-congestion-control),
// keeps 82 of them, and fills no queue on purpose.
const bbr = "bbr"

// tune sets up a socket, or for a listening one those that it will accept. Without a
// choice the congestion control is BBR where this process may have it: the kernel has to
// know it, and unless net.ipv4.tcp_allowed_congestion_control lists it, only a process
// with CAP_NET_ADMIN may choose it.
func tune(raw syscall.RawConn, c Congestion) error {
	name := string(c)
	if c == "" {
		name = bbr
	}
	var result error
	err := raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
		if c != System {
			result = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		}
	})
	if err != nil || result == nil || c == "" {
		return err
	}
	return fmt.Errorf("tcp: congestion control %q: %w", name, result)
}
