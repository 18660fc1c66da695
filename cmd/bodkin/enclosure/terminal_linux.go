package enclosure

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// keepTerminal remembers whether our process group is the terminal's. What it returns
// makes it so again: a shell inside cannot give it back, for our group has no number there.
func keepTerminal() (giveBack func()) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return func() {}
	}
	fd := int(tty.Fd())
	ours := unix.Getpgrp()
	if now, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || now != ours {
		tty.Close()
		return func() {}
	}
	return func() {
		defer tty.Close()
		if now, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || now == ours {
			return
		}
		signal.Ignore(unix.SIGTTOU) // which asks those in the background not to do this
		unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, ours)
		signal.Reset(unix.SIGTTOU)
	}
}
