package pty

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

const (
	getModes          = unix.TIOCGETA
	setModesNow       = unix.TIOCSETA
	inputOfThisSystem = 0
)

// fromBackground calls f while SIGTTOU is ignored: one thread's signal mask cannot be
// set from Go here.
func fromBackground(f func()) {
	signal.Ignore(unix.SIGTTOU)
	defer signal.Reset(unix.SIGTTOU)
	f()
}

func foregroundGroup(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCGPGRP) }

// unread is not known here.
func unread(*os.File) bool { return false }
