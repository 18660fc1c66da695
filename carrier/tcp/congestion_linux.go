package tcp

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// bbr is what is chosen where nothing is said. A tunnel is one connection for all that
// is inside: where each lost packet halves its rate, one percent of loss leaves 3 of 100
// Mbit/s. BBR goes by the rate that arrives (draft-cardwell-iccrg-bbr-congestion-control)
// and keeps 82 of them, and it fills no queue on purpose.
const bbr = "bbr"

// choose gives a socket, or those that a listening one will accept, the congestion
// control c. Without a choice it is BBR where this process may have it: the kernel has to
// know it, and unless net.ipv4.tcp_allowed_congestion_control lists it, only a process
// with CAP_NET_ADMIN may choose it.
func choose(raw syscall.RawConn, c Congestion) error {
	if c == System {
		return nil
	}
	name := string(c)
	if name == "" {
		name = bbr
	}
	var result error
	err := raw.Control(func(fd uintptr) {
		result = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	})
	if err != nil || result == nil || c == "" {
		return err
	}
	return fmt.Errorf("tcp: congestion control %q: %w", name, result)
}
