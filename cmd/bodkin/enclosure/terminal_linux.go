package enclosure

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// keepTerminal leaves the terminal's keys to the command. What it returns makes our
// process group the terminal's again, if it was: a shell inside cannot give it back, for
// our group has no number there.
func keepTerminal() (giveBack func()) {
	signal.Ignore(os.Interrupt, unix.SIGQUIT)
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
