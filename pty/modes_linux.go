package pty

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	getModes          = unix.TCGETS
	setModesNow       = unix.TCSETS
	inputOfThisSystem = unix.IUCLC // Linux alone folds upper case
)

// fromBackground calls f on a thread that SIGTTOU cannot stop: with the signal
// blocked, tty_ioctl(4) sets modes from a background process group as well. Ignoring
// the signal would be seen by programs started meanwhile.
func fromBackground(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	}
	f()
}

func foregroundGroup(fd int) (int, error) {
	group, err := unix.IoctlGetUint32(fd, unix.TIOCGPGRP)
	return int(group), err
}

// unread opens the slave for a moment and asks poll(2) whether there is something to
// read. The kernel's answer there is exact: it first moves what is on its way between
// the two ends. Kernels before 4.13 cannot open the slave of a given master.
func unread(master *os.File) (is bool) {
	control(master, func(fd int) error {
		// Without O_NOCTTY a session leader would get it as its controlling terminal.
		slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK)
		if errno != 0 {
			return errno
		}
		defer unix.Close(int(slave))
		ready, err := poll(int(slave), unix.POLLIN)
		is = err == nil && ready&unix.POLLIN != 0
		return err
	})
	return is
}
