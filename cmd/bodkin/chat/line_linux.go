package chat

import (
	"os"

	"golang.org/x/sys/unix"
)

// sendBreak is tcsendbreak(3) with a duration of 0.
func sendBreak(fd int) error {
	return os.NewSyscallError("TCSBRK", unix.IoctlSetInt(fd, unix.TCSBRK, 0))
}
