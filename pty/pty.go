// Package pty makes pairs of terminals and sets terminals raw, as termios(3) and
// pty(7) describe them.
//
// A raw terminal carries octets and changes none: no echo, no line editing, no
// signals, no flow control, 8 bits. Package pty starts no program and no goroutine,
// and never looks at the controlling terminal of the process: it acts on the files
// it is given.
//
// No mode is set here that outlives a program without its caller knowing: Raw
// returns the way back. See there for what a caller owes a terminal that is not its
// own.
package pty

import (
	"fmt"
	"os"

	"github.com/creack/pty"
)

// Open makes a pair of terminals. A program gets the slave as its standard input and
// output; what it writes there is read from the master, and the other way round.
//
// The slave is raw from the start, so nothing a program writes before it sets modes
// of its own comes back to it. Both are closed on exec. The master does not block:
// closing it ends a Read or Write of it that waits.
//
// A Read of the master that returns EIO (Linux; io.EOF elsewhere) means that nobody
// has the slave open any more, not that it has been read empty by mistake: what was
// written there before is read first. It returns that before somebody opens the slave
// as well, so the slave is kept open until a program has it for sure. Closing the
// master hangs up: programs on the slave get SIGHUP and read the end, and what they
// have not read by then is lost.
func Open() (master, slave *os.File, err error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("pty: %w", err)
	}
	// The library leaves the master blocking; a duplicate has the same open file.
	master, err = unblocked(blocking)
	if closing := blocking.Close(); err == nil {
		err = closing
	}
	if err == nil {
		_, err = setRaw(slave)
	}
	if err != nil {
		slave.Close()
		if master != nil {
			master.Close()
		}
		return nil, nil, fmt.Errorf("pty: %w", err)
	}
	return master, slave, nil
}

// Raw sets a terminal raw and returns what sets the modes back that it had before:
// all of them, once, from any goroutine; later calls return what the first did.
//
// A caller that borrows a terminal from a shell must call restore on every way out.
// A deferred call serves a return and a panic of the same goroutine. For SIGINT,
// SIGTERM and SIGHUP the caller catches the signal (signal.NotifyContext), ends in
// good order, and so gets to its deferred call. Against SIGKILL nothing in the process
// helps: `stty sane` does.
//
// Both work in a background process group too, without being stopped by SIGTTOU,
// because a restore that stops halfway serves nobody. Whether a terminal that is in
// somebody else's use may be set at all is for the caller to ask: see Foreground.
func Raw(tty *os.File) (restore func() error, err error) {
	restore, err = setRaw(tty)
	if err != nil {
		return nil, fmt.Errorf("pty: setting %s raw: %w", tty.Name(), err)
	}
	return restore, nil
}

// IsTerminal reports whether file is a terminal, either end of a pair.
func IsTerminal(file *os.File) bool { return isTerminal(file) }

// Foreground reports whether this process is in the foreground process group of its
// controlling terminal tty: whether it may read from it. It is false for a terminal
// that is not the controlling one.
func Foreground(tty *os.File) bool { return foreground(tty) }

// CopySize gives terminal to the window size of terminal from. Programs on a slave
// get SIGWINCH if the size is new to it; the size may be set at either end of the
// pair.
func CopySize(to, from *os.File) error {
	if err := copySize(to, from); err != nil {
		return fmt.Errorf("pty: window size: %w", err)
	}
	return nil
}

// Held reports whether anybody has the slave of master open.
func Held(master *os.File) bool { return held(master) }

// Unread reports whether programs have left unread what was written to master. It is
// false where the system does not say.
func Unread(master *os.File) bool { return unread(master) }
