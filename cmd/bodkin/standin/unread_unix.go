//go:build unix

package standin

import (
	"os"

	"golang.org/x/sys/unix"
)

// unread takes what was written for a terminal's programs and not read by them, at
// most what a terminal holds.
func unread(terminal *os.File) (all []byte) {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return nil
	}
	raw.Control(func(fd uintptr) {
		b := make([]byte, switchBuffer)
		for len(all) < 16*switchBuffer {
			// The kernel's answer to poll is exact: what is on its way counts.
			ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(ready, 0); n != 1 || err != nil || ready[0].Revents&unix.POLLIN == 0 {
				return
			}
			n, err := unix.Read(int(fd), b)
			if n <= 0 || err != nil {
				return
			}
			all = append(all, b[:n]...)
		}
	})
	return all
}
