//go:build linux || darwin

package pty

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// makeRaw is cfmakeraw of termios(3), and more: no flow control of either direction
// by octets, since a ^S in the data would stop it for good.
func makeRaw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.IGNPAR | unix.PARMRK | unix.INPCK | unix.ISTRIP |
		unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF | unix.IXANY | unix.IMAXBEL | inputOfThisSystem
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8 | unix.CREAD
	t.Cc[unix.VMIN] = 1
	t.Cc[unix.VTIME] = 0
}

func setRaw(tty *os.File) (restore func() error, err error) {
	var before unix.Termios
	err = control(tty, func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, getModes)
		if err != nil {
			return err
		}
		before = *got
		raw := before
		makeRaw(&raw)
		return setModes(fd, &raw)
	})
	if err != nil {
		return nil, err
	}
	return sync.OnceValue(func() error {
		return control(tty, func(fd int) error { return setModes(fd, &before) })
	}), nil
}

// setModes sets the modes at once: waiting for output to drain first would wait for
// ever on a terminal that is stopped.
func setModes(fd int, modes *unix.Termios) (err error) {
	fromBackground(func() { err = unix.IoctlSetTermios(fd, setModesNow, modes) })
	return err
}

func isTerminal(file *os.File) bool {
	return control(file, func(fd int) error {
		_, err := unix.IoctlGetTermios(fd, getModes)
		return err
	}) == nil
}

func foreground(tty *os.File) (is bool) {
	control(tty, func(fd int) error {
		group, err := foregroundGroup(fd)
		is = err == nil && group == unix.Getpgrp()
		return err
	})
	return is
}

func copySize(to, from *os.File) error {
	var size *unix.Winsize
	err := control(from, func(fd int) (err error) {
		size, err = unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		return err
	})
	if err != nil {
		return err
	}
	return control(to, func(fd int) (err error) {
		fromBackground(func() { err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
		return err
	})
}

// held asks poll(2), which says POLLHUP of a master whose slave nobody has.
func held(master *os.File) (is bool) {
	control(master, func(fd int) error {
		ready, err := poll(fd, 0)
		is = err == nil && ready&unix.POLLHUP == 0
		return err
	})
	return is
}

// poll returns which of events, and of the conditions that are always told, hold now.
func poll(fd int, events int16) (int16, error) {
	for {
		polled := []unix.PollFd{{Fd: int32(fd), Events: events}}
		_, err := unix.Poll(polled, 0)
		if err != unix.EINTR {
			return polled[0].Revents, err
		}
	}
}

// unblocked returns a duplicate of file that does not block.
func unblocked(file *os.File) (duplicate *os.File, err error) {
	err = control(file, func(fd int) error {
		ours, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		if err := unix.SetNonblock(ours, true); err != nil {
			unix.Close(ours)
			return err
		}
		duplicate = os.NewFile(uintptr(ours), file.Name())
		return nil
	})
	return duplicate, err
}

// control calls f with the descriptor of file, whose blocking or not it leaves alone,
// as File.Fd does not.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	if failed != nil {
		return failed
	}
	return err
}
